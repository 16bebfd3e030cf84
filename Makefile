# The two commands a newcomer needs: `make demo` and `make test`. Both make .venv themselves.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench field accuracy ledger figures tables plots labs coverage-map docs clean

.venv/base: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@$(BIN)/python -m compileall -q src
	@touch $@

.venv/dev: .venv/base
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,torch,onnx,web,sweep]'
	@touch $@

demo: .venv/base
	@$(BIN)/pharos check examples/wildlife/contract.yaml || test $$? -eq 3
	@echo; echo 'The same as JSON: pharos check examples/wildlife/contract.yaml --json'
	@$(BIN)/pharos check examples/wildlife/contract.yaml --json || test $$? -eq 3

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/basedpyright

test: lint
	$(BIN)/python -m pytest -n 2

bench: .venv/dev
	$(BIN)/python benchmarks/speed.py

# Field trials: needs the folder of measured rows (PHAROS_FIELD, by default ../shared/field); writes docs/accuracy.md.
field: .venv/dev
	$(BIN)/python benchmarks/field

# Calibrates this machine, then measures what it predicts; writes docs/accuracy_here.md. Leave the machine alone.
accuracy: .venv/dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/requirements-accuracy.txt
	$(BIN)/python benchmarks/accuracy.py

# The textbook's claims, recomputed; writes docs/ledger.md and prints how many hold.
ledger: .venv/base
	@$(BIN)/pharos ledger --write docs/ledger.md

# The textbook's figures; writes docs/figures.md and the SVGs beside it.
figures: .venv/dev
	@$(BIN)/pharos figure --write docs/figures.md

# The textbook's tables beside the chapter's cells; writes docs/book_tables.md.
tables: .venv/base
	@$(BIN)/pharos table --write docs/book_tables.md

# Every lab of the textbook on this machine; writes docs/labs.md.
labs: .venv/dev
	@$(BIN)/pharos lab --all --write docs/labs.md

# Pictures of every kind; writes docs/plots.md and docs/plots/.
plots: .venv/dev
	@$(BIN)/python benchmarks/plots.py

# Each feature of the textbook's system with its code, proof and page; writes docs/coverage.md.
coverage-map: .venv/base
	@$(BIN)/python -m pharos.book.coverage

.venv/docs: .venv/base
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

# The documentation site, strictly, in build/site; it needs no network to be read.
docs: .venv/docs
	@$(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis
