"""Writes docs/plots.md and its pictures in docs/plots/: each by the command that the page shows."""

import sys
from pathlib import Path

from pharos.report.plotting import plots

ROOT = Path(__file__).parents[1]
PAGE, PICTURES = ROOT / "docs" / "plots.md", ROOT / "docs" / "plots"
# The name of a picture, what follows `pharos plot`, and what it shows.
SHOWN = (
    ("roofline", "roofline gpt2_xl --on a100 --decode -c 1024 -b 8 -p bf16",
     "Operators under the roofs of a machine: where a mark lies says what could make it faster, its area how much "
     "that is worth. Dashed: the cache, the vector units, a narrower type. The diamond is the whole step with its "
     "80% band."),
    ("rooflines", "roofline llama3_8b --on a100,h100-sxm,rtx4090 --decode -c 2048 -b 16 -p bf16",
     "Up to six machines over each other, each with its shape and colour."),
    ("waterfall", "waterfall resnet50 --on a100 -b 8 -p fp16",
     "T = D/BW + O/(R x eta) + L, term by term: dark what a machine at its peak would take, light what is lost "
     "below it, less what overlaps. `--by energy` and `--by memory` do the same for joules and bytes."),
    ("memory", "memory mobilenet_v2 -p int8",
     "Activations from the operator that makes them to their last reader, each where one block of memory holds "
     "it; what is live at the peak stands out."),
    ("training", "training gpt2 -b 2 -c 512 -p bf16",
     "A training step: weights, copies, optimiser, activations, gradients over forward, backward and update."),
    ("treemap", "treemap resnet50 --by macs",
     "Parts as areas: `--by parameters`, `macs`, or `time`, which asks for a machine."),
    ("tornado", "tornado mobilenet_v2 --on cortex-a53 -p int8",
     "What half and twice of each figure of the machine would do, the one that matters most on top."),
    ("pareto", "pareto examples/briefs/wildlife.yaml",
     "Candidates that none beats, the choice and the runner-up with their bands, and the brief's limits; `--x` and "
     "`--y` take latency, memory, energy, storage and accuracy."),
    ("capacity", "capacity llama3_8b --on a100 -c 2048 --users 16",
     "Users that fit at each context, as asked and with a remedy each."),
    ("sharding", "sharding examples/tables_600gb.yaml --on a100 --devices 16",
     "Pieces of embedding tables over devices, by the way they are laid."),
)  # fmt: skip
HEAD = """# Plots

`pharos plot WHAT OF --on MACHINE -o FILE` draws what the other commands tell, as `.png`, `.svg`, `.html` (a page that
works without a network: hover, drag, zoom with Shift and the wheel) or `.json` (Vega-Lite with its rows). `--dark` is for
a dark page. Without `-o` it is told in words, roofline and waterfall also in characters; `--json` gives the rows.

```console
$ pharos plot waterfall resnet50 --on a100 -b 8 -p fp16
{waterfall}
```

The same in Python; a notebook shows the figure, `.alt` says it in words, `.rows(name)` are the numbers:

```python
import pharos

figure = pharos.plot("roofline", "resnet50", on=["a100", "t4"], batch=8)
figure.save("roofline.json", dark=True)
estimate = pharos.predict("resnet50", "a100", batch=8)
assert pharos.plot("treemap", estimate, by="time").rows("parts")
```

| plot | shows |
|---|---|
{table}

Every picture says how its figures are known, draws bands where there are any, and tells kinds apart by shape or words as
well as by colour. Pictures and page are written by `make plots`.

"""
TAIL = """## Measurements

`pharos plot measured` draws the runs that `pharos measure` kept, of one model if it is named; `pharos plot measured FILE`
rows of a `.csv`, `.json` or `.jsonl` file: `name`, `measured_s`, `predicted_s`, and where known `predicted_low_s`,
`predicted_high_s` and `group`; also what `pharos measure --json` prints.

## Sweeps

`pharos plot out.parquet --x latency_s --y tokens_per_s --colour machine` draws two columns of what `pharos sweep` wrote, a
file or a folder of parts; `.csv` files too. More than 2,000 rows are drawn as bins, which the picture says; the line of
rows that none beats is computed over all of them, by what is good of each column: rates and accuracies large, all else
small.
"""


def main() -> int:
    """Draws everything anew."""
    PICTURES.mkdir(exist_ok=True)
    for name, words, _ in SHOWN:
        figure = drawn(words)
        for dark in (False, True):
            figure.save(PICTURES / f"{name}{'_dark' if dark else ''}.svg", dark)
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{len(SHOWN)} pictures in {PICTURES.relative_to(ROOT)}")
    return 0


def drawn(words: str):
    """The figure that a command draws."""
    from tempfile import TemporaryDirectory

    from typer.testing import CliRunner

    from pharos.doors.cli import app
    from pharos.report import drawing

    kept = []
    original = drawing.Figure.save
    try:
        drawing.Figure.save = lambda self, path, dark=False: kept.append(self)  # type: ignore[method-assign]
        with TemporaryDirectory() as folder:
            found = CliRunner().invoke(app, ["plot", *words.split(), "-o", f"{folder}/a.svg"])
    finally:
        drawing.Figure.save = original  # type: ignore[method-assign]
    if found.exception is not None:
        raise found.exception
    return kept[0]


def told(words: str) -> str:
    """What a command prints at 80 columns."""
    from typer.testing import CliRunner

    from pharos.doors.cli import app

    found = CliRunner().invoke(app, ["plot", *words.split()], env={"COLUMNS": "80", "NO_COLOR": "1"})
    return "\n".join(line.rstrip() for line in found.stdout.rstrip().splitlines())


def page() -> str:
    """The page, with what is true now."""
    table = "\n".join(f"| `{p.name}` | {p.summary} |" for p in plots().values())
    parts = [HEAD.format(waterfall=told("waterfall resnet50 --on a100 -b 8 -p fp16"), table=table)]
    for name, words, says in SHOWN:
        alt = drawn(words).alt.replace('"', "'")
        parts.append(f"## {name.capitalize()}\n\n{says}\n\n```sh\npharos plot {words} -o {name}.svg\n```\n\n"
                     f'<picture><source media="(prefers-color-scheme: dark)" srcset="plots/{name}_dark.svg">'
                     f'<img src="plots/{name}.svg" alt="{alt}"></picture>\n\n')  # fmt: skip
    return "".join(parts) + TAIL


if __name__ == "__main__":
    sys.exit(main())
