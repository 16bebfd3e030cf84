"""The families table, and Tables 5, 6 and 7: primitives, memory and complexity by family."""

from typing import Any

from pharos.book.sums import counted, estimate, leads, symbols
from pharos.book.table import DECLARED, DERIVED, PREDICTED, Asked, Cell, Filled, cell, table, words
from pharos.book.tables.lighthouses import binding_note, known, setting
from pharos.facts.tables import family_card
from pharos.graph.count import count
from pharos.graph.graph import Graph
from pharos.models.families import FORMULAS
from pharos.ops.linear import Linear
from pharos.passes.asymptotic import pretty
from pharos.passes.depth import depth
from pharos.quantity.sizes import Size, prod
from pharos.quantity.units import fmt_count
from pharos.report.readings import HEADINGS, primitives_row

# Row -> (family's card, model, phase, context, batch, precision) that stands for it.
FAMILIES = {
    "MLPs": ("mlp", "mlp", "forward", None, 1, "fp16"),
    "CNNs": ("cnn", "resnet50", "forward", None, 32, "fp16"),
    "RNNs": ("rnn", "lstm_tagger", "forward", 1000, 1, "fp16"),
    "Transformers": ("transformer", "llama-2-7b", "decode", 2048, 1, "fp16"),
    "DLRM": ("dlrm", "dlrm-mlperf", "forward", None, 1, "fp32"),
}
# Column of Table 5 -> model whose operators are asked.
PLAYED_BY = {"MLP": "mlp", "CNN": "resnet50", "RNN": "lstm_tagger", "Transformer": "gpt2-xl"}
# What handles less than this share of a heading's elements is not what the family is known for.
LEAST = 0.01
# Sizes at which formulas are also told as numbers: the chapter's own layers where it has one.
SIZES = {
    "mlp": {"B": 1, "d_in": 784, "d_out": 100},
    "cnn": {"B": 1, "H": 28, "W": 28, "k": 3, "c_in": 1, "c_out": 32},
    "rnn": {"B": 1, "S": 1000, "h": 128, "d": 100},
    "transformer": {"B": 1, "n": 512, "d": 768},
}


def bound(asked: Asked, row: str) -> tuple[str, str, str]:
    """(what binds the network that stands for a family, where that was predicted, where its time goes).

    Capacity, a chain of steps or the side of the roofline; time between kernels is told apart.
    """
    _, name, phase, context, batch, precision = FAMILIES[row]
    model = asked.model(name)
    precision = known(asked.machine, precision)
    many = batch if asked.batch == 1 else asked.batch
    found = estimate(model, asked.machine, phase, many, context, precision)
    tokens = f", {context:,} tokens" if context else ""
    binds = str(found.regime if str(found.binding) == "overhead" else found.binding)
    return binds, f"{model}, {phase}, batch {many}{tokens}, {precision}", binding_note(found)


@table(
    "families",
    "families",
    "Five families: what they assume, what binds them",
    "1.1",
    heeds=("machine", "batch"),
)
def families(asked: Asked) -> Filled:
    """What each family assumes and is built of, from its card; what binds a network of it, predicted."""
    rows = []
    for row, (family, *_) in FAMILIES.items():
        card = family_card(family)
        binds, said, note = bound(asked, row)
        rows.append((row, (
            cell(("families", row, "data"), card["assumes"], how=DECLARED),
            cell(("families", row, "innovation"), ", ".join(card["biases"]), how=DECLARED),
            cell(("families", row, "bottleneck"), binds, f"{binds} ({said})", PREDICTED, note=note),
        )))  # fmt: skip
    return Filled(columns=("family", "data", "builds on", "binds"), rows=tuple(rows), setting=setting(asked),
                  note="one network stands for each family; what binds depends on device, batch and phase: "
                  "try --on and --batch")  # fmt: skip


@table("5", "primitives", "Primitives by family", "1.8")
def primitives(asked: Asked) -> Filled:
    """Each heading's primitives by their share of the elements that operators declare, largest first."""
    rows = []
    by = {column: counted(asked.model(name), context=_tokens(name)) for column, name in PLAYED_BY.items()}
    for heading in HEADINGS:
        cells = []
        for column, found in by.items():
            own = primitives_row(found)[heading]
            whole = float(sum(own.values())) or 1.0
            ranked = sorted(((float(v) / whole, n) for n, v in own.items() if v), reverse=True)
            shown = [
                f"{n.replace('_', ' ')} {s:.0%}" if s >= LEAST else f"{n.replace('_', ' ')} <1%"
                for s, n in ranked
            ]
            at = ("5", heading, column)
            stated = cell(at, None).stated or []
            names = {n for s, n in ranked if s >= LEAST} | ({"sliding_window"} if _slides(found) else set())
            cells.append(
                cell(
                    at,
                    {n: round(s, 6) for s, n in ranked},
                    ", ".join(shown),
                    DERIVED,
                    compare=[n if n in names else "none" for n in stated],
                    note=_why(heading, column),
                )
            )
        rows.append((heading, tuple(cells)))
    cells = []
    for column, found in by.items():
        deep = depth(found.graph)
        steps, wide = int(deep.steps), float(deep.parallelism)
        # as many dependent steps as tokens is what the chapter calls low
        level = "low" if steps >= (_tokens(PLAYED_BY[column]) or 10**9) else "high"
        cells.append(cell(("5", "parallelism", column), level, f"{level}: {steps:,} steps in a row, "
                          f"{fmt_count(wide, 2)} results at once", DERIVED))  # fmt: skip
    rows.append(("parallelism", tuple(cells)))
    return Filled(columns=("primitives", *by), rows=tuple(rows),
                  setting=", ".join(f"{c} {asked.model(n)}" for c, n in PLAYED_BY.items()),
                  note="shares of the elements that the operators of a network declare to each primitive, "
                       "within a "
                  "heading; products count as computation, elements read or moved otherwise")  # fmt: skip


def _tokens(name: str) -> int | None:
    return {"lstm_tagger": 1000, "gpt2-xl": 1024}.get(name)


def _slides(found: Any) -> bool:
    return "sliding_window" in primitives_row(found)["computation"]


def _why(heading: str, column: str) -> str:
    if (heading, column) == ("memory access", "Transformer"):
        return "dense attention reads keys and values in a row; only the embedding is looked up at random"
    return ""


def built(family: str, names: dict[str, Any] | None = None) -> tuple[Graph, dict[str, Any]]:
    """(a family's layer, its symbols); `names` puts other symbols or numbers in their places."""
    known_as = FORMULAS[family]
    found = {n: symbols(n) for n in known_as.symbols} | (names or {})
    return known_as.build(found), found


def activations(graph: Graph) -> Size:
    """Elements that operators write, with the scores that an algorithm stores; views write none."""
    total: Size = 0
    for node, times, _ in graph.walk():
        if node.op.class_of(*node.io) != "view":
            written: Size = sum((t.numel for t in node.outs), start=0)
            total = total + times * (written + node.op.workspace(*node.io) / 4)
    return total


def growth(formula: Any, symbol: Any) -> str:
    """How a formula grows with one of its sizes, by its leading power."""
    told = leads(formula, str(symbol))
    return {"O(1)": "constant", f"O({symbol})": "linear", f"O({symbol}^2)": "quadratic"}.get(told, told)


@table("6", "memory-access", "Memory by family, from the layers' formulas", "1.9")
def memory_access(asked: Asked) -> Filled:
    """Parameters and activations of a family's layer in the chapter's symbols, and what doubling costs."""
    b, n, k, c, d, h, s, hi, wide = symbols("B N K C d h S H W")
    plan = {
        "MLP": ("mlp", {"B": b, "d_in": n, "d_out": wide}, n, ("N", "W"), ("B", "W"), "inputs"),
        "CNN": ("cnn", {"B": b, "k": k, "c_in": c, "c_out": c, "H": hi, "W": wide}, hi, ("K", "C"),
                ("B", "C", "H", "W"), "height"),
        "RNN": ("rnn", {"B": b, "S": s, "h": h, "d": d}, s, ("h", "d"), ("B", "S", "h"), "steps"),
        "Transformer": ("transformer", {"B": b, "n": n, "d": d}, n, ("N", "d"), ("B", "N", "d"), "tokens"),
    }  # fmt: skip
    notes = {
        ("CNN", "parameters"): "K x K taps, C channels in and C out; Table 7 has it",
        ("CNN", "activations"): "the channels belong to it",
        ("RNN", "parameters"): "the input matrix belongs to it, as in Table 7",
        ("Transformer", "parameters"): "the same whatever N; only a learned table of positions grows with it",
        ("Transformer", "activations"): "features of the tokens belong to it; scores only where stored",
    }  # fmt: skip
    rows = []
    for row, (family, given, grows, first, second, what) in plan.items():
        graph, _ = built(family, given)
        found = count(graph)
        kept = activations(graph)
        sizes = found.parameters
        by_input = growth(sizes if row == "CNN" else found.macs + kept, grows)
        double = _ratio(found.macs, grows), _ratio(kept, grows), _ratio(sizes, grows)
        rows.append(
            (
                row,
                (
                    cell(
                        ("6", row, "input"),
                        by_input,
                        f"{by_input} in {what}" + (" (parameters)" if row == "CNN" else ""),
                        DERIVED,
                    ),
                    cell(
                        ("6", row, "parameters"),
                        leads(sizes, *first),
                        how=DERIVED,
                        note=notes.get((row, "parameters"), ""),
                    ),
                    cell(
                        ("6", row, "activations"),
                        leads(kept, *second),
                        how=DERIVED,
                        note=notes.get((row, "activations"), ""),
                    ),
                    cell(
                        ("6", row, "scaling"),
                        {"macs": double[0], "activations": double[1], "parameters": double[2]},
                        f"twice the {what}: MACs x{double[0]:.3g}, activations x{double[1]:.3g}, parameters "
                        f"x{double[2]:.3g}",
                        DERIVED,
                    ),
                ),
            )
        )
    return Filled(
        columns=("family", "grows with its input", "parameters", "activations", "when doubled"),
        rows=tuple(rows),
        setting="N inputs or tokens, W and d widths, K kernel, C channels, H x W map, h hidden, S steps, "
        "B batch",
        note="leading terms of the exact formulas of the families' layers; doubled at 4,096 of the size "
        "that grows, "
        "all others 64",
    )


def _ratio(formula: Any, symbol: Any) -> float:
    """By what a formula grows when a size of 4,096 doubles, all others 64 and a kernel 3."""
    if not hasattr(formula, "free_symbols"):
        return 1.0
    at = {s: 3 if s.name in ("K", "k") else 64 for s in formula.free_symbols}
    return float(formula.subs(at | {symbol: 8192}) / formula.subs(at | {symbol: 4096}))


@table("7", "architectures", "Complexity by family: parameters, work, memory, parallelism", "1.9",
       heeds=("machine", "batch"))  # fmt: skip
def architectures(asked: Asked) -> Filled:
    """Exact formulas' leading terms with their numbers at one size; what binds as predicted."""
    order = {"MLPs": "mlp", "CNNs": "cnn", "RNNs": "rnn", "Transformers": "transformer"}
    names = {
        "mlp": ("d_in", "d_out"), "cnn": ("H", "W", "k", "c_in", "c_out"), "rnn": ("S", "h", "d"),
        "transformer": ("n", "d"),
    }  # fmt: skip
    r = SIZES["rnn"]
    notes = {
        ("RNNs", "forward"): "the S h d of the inputs is left out, {share:.0%} of the work at h = {h}, d "
                             "= {d}".format(
            share=r["d"] / (r["h"] + r["d"]), **r),
        ("Transformers", "parameters"): "h heads of d / h hold together what one full head does; a factor "
                                        "h needs every "
        "head at full width",
        ("Transformers", "activations"): "scores only while they are stored",
    }  # fmt: skip
    rows = []
    for row, family in order.items():
        graph, found = built(family, {"B": 1})
        counts = count(graph)
        deep = depth(graph)
        at = {v: SIZES[family][n] for n, v in found.items() if hasattr(v, "free_symbols")}
        square = {"d_in": symbols("d"), "d_out": symbols("d"), "c_in": symbols("c"), "c_out": symbols("c")}
        own = {n: v for n, v in square.items() if n in found}
        batched = symbols("B") if row == "MLPs" else 1
        alike, _ = built(family, own | {"B": batched}) if own else (graph, None)
        kept, order_of = _kept(row, graph, alike)
        binds, said, note = bound(asked, row)
        steps = leads(deep.steps, *names[family])
        rows.append(
            (
                row,
                (
                    _formula(
                        ("7", row, "parameters"),
                        counts.parameters,
                        names[family],
                        at,
                        notes.get((row, "parameters"), ""),
                        also=_heads() if row == "Transformers" else "",
                    ),
                    _formula(
                        ("7", row, "forward"),
                        counts.macs,
                        names[family],
                        at,
                        notes.get((row, "forward"), ""),
                        " MACs",
                    ),
                    _weights(row, alike, own),
                    cell(
                        ("7", row, "activations"),
                        leads(kept, *order_of),
                        how=DERIVED,
                        note=notes.get((row, "activations"), ""),
                    ),
                    cell(
                        ("7", row, "parallel"),
                        steps,
                        f"{steps} steps in a row, {leads(deep.widest, *names[family])} at once",
                        DERIVED,
                    ),
                    cell(("7", row, "bottleneck"), binds, f"{binds} ({said})", PREDICTED, note=note),
                ),
            )
        )
    sizes = "; ".join(
        f"{row} {', '.join(f'{n}={v:,}' for n, v in SIZES[f].items() if n != 'B')}"
        for row, f in order.items()
    )
    return Filled(
        columns=("family", "parameters", "forward", "weights, all widths alike", "memory beside weights",
                 "in parallel", "binds"),
        rows=tuple(rows), setting=f"{setting(asked)}; numbers at {sizes}",
        note="leading terms of exact formulas of one layer, batch 1; numbers are the whole formula's, not "
             "the leading "
        "term's; 1 MAC = 2 FLOPs",
    )  # fmt: skip


def _heads() -> str:
    """What h heads of d / h hold of queries, keys and values together."""
    d, h = symbols("d h")
    return leads(3 * h * prod(Linear(d, d / h, False).weights()["weight"]), "d", "h")


def _kept(row: str, graph: Graph, alike: Graph) -> tuple[Any, tuple[str, ...]]:
    """(what a layer holds beside its weights, symbols in the order to print them)."""
    if row == "RNNs":
        return sum(t.numel for node, _, _ in graph.walk() for t in node.state.values()), ("h",)
    if row == "Transformers":
        return activations(graph), ("n", "d")
    return activations(alike), ("d", "B") if row == "MLPs" else ("H", "W", "c")


def _weights(row: str, alike: Graph, own: dict[str, Any]) -> Cell:
    if not own:
        return words("as parameters", DERIVED)
    names = ("d",) if row == "MLPs" else ("k", "c")
    return cell(("7", row, "weights"), leads(count(alike).parameters, *names), how=DERIVED)


def _formula(at: tuple[str, str, str], formula: Any, names: tuple[str, ...], sizes: dict[Any, int], note: str,
             unit: str = "", also: str = "") -> Cell:  # fmt: skip
    """A formula's leading term with its value at a size.

    Args:
        also: a second O-expression, where the chapter has two in the cell.
    """
    value = int(formula.subs(sizes)) if hasattr(formula, "free_symbols") else int(formula)
    leading = leads(formula, *names)
    return cell(
        at,
        {"leading": leading, "exact": pretty(formula), "value": value},
        f"{leading}: {fmt_count(value)}{unit}" + (f"; heads together {also}" if also else ""),
        DERIVED,
        note=note,
        compare=[leading, also] if also else leading,
    )
