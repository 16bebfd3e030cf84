"""Readings of a model beside its count: formulas, primitives, the four-part card, stages, training."""

from typing import Any

from rich.console import Console
from rich.text import Text

from pharos.facts.tables import families, family_card
from pharos.graph.count import Count, count
from pharos.graph.graph import Graph
from pharos.graph.workload import Workload
from pharos.models.families import ALIASES, FORMULAS, Formulas
from pharos.models.registry import Model
from pharos.passes.asymptotic import leading, pretty
from pharos.passes.depth import Depth, depth
from pharos.passes.receptive import Stage, stages
from pharos.passes.training import Training
from pharos.quantity.errors import PharosError, SizeError
from pharos.quantity.sizes import Size
from pharos.quantity.units import fmt, fmt_count
from pharos.report.rows import evidence_row, plain
from pharos.report.text import grid, pair, share

# The primitives under the textbook's three headings.
HEADINGS = {
    "computation": ("matmul", "sliding_window", "dynamic"),
    "memory access": ("sequential", "strided", "random"),
    "data movement": ("broadcast", "scatter", "gather", "reduce"),
}


def formulas_row(graph: Graph, names: tuple[str, ...], step: Graph | None = None) -> dict[str, Any]:
    """Cost formulas of a graph on symbols, exact and leading, by figure.

    Args:
        names: symbols in the order that O-expressions print them.
        step: the same model when one more token arrives.
    """
    counted, deep = count(graph), depth(graph)
    figures: dict[str, Size] = {
        "parameters": counted.parameters,
        "macs": counted.macs,
        "traffic_bytes": counted.traffic_per_op,
        "activations": _activations(graph),
        "depth": deep.steps,
        "width": deep.widest,
    }
    if step is not None:
        one = count(step)
        figures |= {
            "step_macs": one.macs,
            "step_traffic_bytes": one.traffic_per_op,
            "state_bytes": one.state_bytes,
        }
    elif not (isinstance(counted.state_bytes, int) and counted.state_bytes == 0):
        figures["state_bytes"] = counted.state_bytes
    return {name: {"exact": pretty(f), "leading": leading(f, names)} for name, f in figures.items()}


def _activations(graph: Graph) -> Size:
    """Elements that operators write, with the scores that an algorithm stores."""
    total: Size = 0
    for node, times, _ in graph.walk():
        if node.op.class_of(*node.io) == "view":
            continue
        written: Size = sum((t.numel for t in node.outs), start=0)
        scratch = node.op.workspace(*node.io)
        total = total + times * (written + scratch / 4)
    return total


def family_formulas(name: str) -> tuple[str, Formulas] | None:
    """(family, its formulas) if that is what a name means."""
    known = ALIASES.get(name.strip().lower(), name.strip().lower())
    return (known, FORMULAS[known]) if known in FORMULAS else None


def symbolic_row(name: str, chosen: Model | None, work: Workload) -> dict[str, Any]:
    """What `--symbolic` tells: of a family, or of a model with its batch and context as symbols.

    Raises:
        SizeError: a model that cannot be built on symbols.
    """
    import sympy

    if chosen is None:
        found = family_formulas(name)
        assert found is not None
        family, known = found
        symbols = {n: sympy.Symbol(n, integer=True, positive=True) for n in known.symbols}
        step = known.decode(symbols) if known.decode else None
        return {
            "family": family,
            "layer": known.layer,
            "symbols": dict(known.symbols),
            "formulas": formulas_row(known.build(symbols), tuple(known.symbols), step),
        }
    b, n = (sympy.Symbol(s, integer=True, positive=True) for s in ("B", "n"))
    given = {"B": "batch", "n": "context"}
    try:
        graph = chosen.graph(work.but(batch=b, context=n))
        step = chosen.graph(work.but(batch=b, context=n, phase="decode"))
    except (TypeError, PharosError) as error:
        raise SizeError("cannot be built with its batch and context as symbols", where=chosen.name) from error
    fixed = count(graph)
    if not any("n" in str(getattr(x, "free_symbols", "")) for x in (fixed.macs, fixed.traffic_per_op)):
        given, step = {"B": "batch"}, None
    return {
        "family": chosen.family,
        "layer": "the whole model, fp32"
        if str(work.precision) == "fp32"
        else f"the whole model, {work.precision}",
        "symbols": given,
        "formulas": formulas_row(graph, tuple(given), step),
    }


_SAID = {
    "parameters": "parameters", "macs": "MACs", "traffic_bytes": "bytes moved", "activations": "activations",
    "depth": "steps in a row", "width": "results at once", "step_macs": "MACs, one more",
    "step_traffic_bytes": "bytes, one more", "state_bytes": "bytes kept",
}  # fmt: skip


def print_symbolic(console: Console, row: dict[str, Any]) -> None:
    """Formulas with their leading terms, most telling first."""
    console.print(Text(f"{row['family']}: {row['layer']}", style="bold"))
    pair(console, "symbols", ", ".join(f"{name} {what}" for name, what in row["symbols"].items()), 17)
    console.print()
    for name, formula in row["formulas"].items():
        pair(console, _SAID[name], f"{formula['exact']}  =  {formula['leading']}", 17)
    console.print()
    console.print("derived from the rules of its operators, exact; bytes: fp32, per_op", style="dim")


def primitives_row(counted: Count) -> dict[str, dict[str, Size]]:
    """Elements that each primitive handles over all operators, under its heading."""
    totals: dict[str, Size] = {}
    for line in counted.lines:
        for name, elements in line.node.op.primitives(*line.node.io).items():
            totals[name] = totals.get(name, 0) + line.times * elements
    return {h: {n: totals[n] for n in names if n in totals} for h, names in HEADINGS.items()}


def print_primitives(console: Console, counted: Count) -> None:
    """A row a primitive: elements, share of its heading, and the operators that use it most."""
    rows: list[list[Any]] = []
    for heading, found in primitives_row(counted).items():
        whole: Size = sum(found.values(), start=0)
        for name, elements in found.items():
            users: dict[str, Size] = {}
            for line in counted.lines:
                own = line.node.op.primitives(*line.node.io).get(name, 0)
                users[line.kind] = users.get(line.kind, 0) + line.times * own
            most = sorted((k for k in users if users[k]), key=lambda k: -users[k])[:3]
            rows.append([heading, name, fmt_count(elements), share(elements, whole), ", ".join(most)])
            heading = ""
    console.print()
    grid(
        console,
        [("primitives", "left"), ("", "left"), ("elements", "right"), ("share", "right"),
         ("mostly by", "left")],
        rows, (4,),
    )  # fmt: skip
    console.print("elements handled: products of multiplications, elements read or moved otherwise; shares "
                  "within a heading", style="dim")  # fmt: skip


def lens_row(family: str, counted: Count, deep: Depth) -> dict[str, Any]:
    """The card of a family, each part with the numbers of the model shown.

    Raises:
        SizeError: a family that is not known, as of an imported file.
    """
    # of several families the first, which is the heaviest
    family = family.partition(" + ")[0]
    if family not in families():
        raise SizeError(
            f"has no card for the family {family or 'unknown'!r}", hint=f"known: {', '.join(families())}"
        )
    card, handled = family_card(family), primitives_row(counted)
    shares = []
    for heading, found in handled.items():
        whole: Size = sum(found.values(), start=0)
        top = max(found, key=lambda name: found[name], default="")
        if top:
            shares.append(f"{heading}: {top} {share(found[top], whole)}")
    held = {"parameters": counted.weight_bytes, "state": counted.state_bytes}
    intensity = counted.intensity("per_op")
    return {
        "family": family,
        "pattern_processing_needs": {"says": card["needs"], "numbers": f"assumes {card['assumes']}"},
        "algorithmic_structure": {
            "says": card["structure"],
            "numbers": f"{fmt_count(counted.macs)} MACs with {fmt_count(counted.parameters)} parameters, "
            f"each used {fmt(counted.macs / counted.parameters) if counted.parameters else '-'} times; "
            f"{_steps(deep)}",
        },
        "computational_mapping": {"says": card["mapping"], "numbers": "; ".join(shares)},
        "system_implications": {
            "says": card["implications"],
            "numbers": ", ".join(f"{fmt(v, 'B')} of {k}" for k, v in held.items() if plain(v))
            + (f"; {fmt(intensity)} FLOP/B per_op" if intensity is not None else ""),
        },
        "inductive_biases": card["biases"],
    }


def _steps(deep: Depth) -> str:
    return f"{fmt_count(deep.steps)} steps in a row of {fmt_count(deep.parallelism)} results each"


def print_lens(console: Console, row: dict[str, Any]) -> None:
    """Four parts and the biases, a sentence and its numbers each."""
    console.print()
    for part in ("pattern_processing_needs", "algorithmic_structure", "computational_mapping",
                 "system_implications"):  # fmt: skip
        console.print(Text(part.replace("_", " "), style="bold"))
        pair(console, "", row[part]["says"])
        pair(console, "", row[part]["numbers"])
    console.print(Text("inductive biases", style="bold"))
    pair(console, "", ", ".join(row["inductive_biases"]))


def stages_row(found: list[Stage]) -> list[dict[str, Any]]:
    """Stages as plain data."""
    return [
        {
            "first": s.first, "last": s.last, "shape": [plain(n) for n in s.shape],
            "receptive_field": None if s.field.size is None else [plain(n) for n in s.field.size],
            "jump": [plain(n) for n in s.field.jump], "operators": s.operators, "macs": plain(s.macs),
            "parameters": plain(s.parameters),
        }
        for s in found
    ]  # fmt: skip


def print_stages(console: Console, graph: Graph, counted: Count) -> None:
    """A row a stage: resolution, channels, what a feature sees, share of operations and parameters."""
    found = stages(graph)
    console.print()
    if not found:
        console.print("no stages: no windows slide over an image or a signal")
        return
    rows = []
    for s in found:
        spatial = " x ".join(str(n) for n in s.shape[1:]) if s.field.size else "-"
        sees = "all" if s.field.size is None else " x ".join(str(n) for n in s.field.size)
        rows.append([
            s.last, spatial, str(s.shape[0]), sees, " x ".join(str(j) for j in s.field.jump),
            str(s.operators), share(s.macs, counted.macs), share(s.parameters, counted.parameters),
        ])  # fmt: skip
    columns = [("stage ends with", "left"), ("size", "right"), ("channels", "right"), ("sees", "right"),
               ("jump", "right"), ("ops", "right"), ("MACs", "right"), ("params", "right")]  # fmt: skip
    grid(console, columns, rows)
    console.print("sees: receptive field of a feature in input positions; jump: between neighbours",
                  style="dim")  # fmt: skip


def training_row(step: Training, optimizer: str, checkpointing: str) -> dict[str, Any]:
    """A training step as plain data."""
    parts = {"forward": step.forward, "backward": step.backward, "recomputed": step.recomputed,
             "update": step.update}  # fmt: skip
    return {
        "optimizer": optimizer,
        "checkpointing": checkpointing,
        **{
            name: {
                "macs": plain(work.macs), "flops": plain(work.flops),
                "vector_flops": plain(work.vector_flops), "traffic_bytes": plain(step.traffic[name].total),
            }
            for name, work in parts.items()
        },
        "memory_bytes": {
            "weights": plain(step.weights), "master": plain(step.master), "gradients": plain(step.gradients),
            "optimizer": plain(step.optimizer), "saved_activations": plain(step.saved),
            "peak": plain(step.peak),
        },
        "peak_at": step.peak_at,
        "peak_bytes": {kind: plain(nbytes) for kind, nbytes in step.parts.items()},
        "evidence": evidence_row(step.evidence),
    }  # fmt: skip


def print_training(console: Console, step: Training, optimizer: str, checkpointing: str) -> None:
    """The parts of a step and the memory they hold."""
    console.print()
    how = "" if checkpointing == "none" else f", checkpointing {checkpointing}"
    console.print(Text(f"training step, {optimizer}{how}", style="bold"))
    whole = step.work.macs
    rows = []
    parts = {"forward": step.forward, "backward": step.backward, "recomputed": step.recomputed,
             "update": step.update}  # fmt: skip
    for name, work in parts.items():
        if name == "recomputed" and checkpointing == "none":
            continue
        rows.append([
            name, fmt_count(work.macs), fmt_count(work.flops), fmt_count(work.vector_flops),
            fmt(step.traffic[name].total, "B"), share(work.macs, whole),
        ])  # fmt: skip
    grid(
        console,
        [("part", "left"), ("MACs", "right"), ("FLOPs", "right"), ("vector FLOPs", "right"),
         ("bytes", "right"), ("MACs %", "right")],
        rows,
    )  # fmt: skip
    held = {"weights": step.weights, "fp32 copies": step.master, "gradients": step.gradients,
            optimizer: step.optimizer, "saved activations": step.saved}  # fmt: skip
    pair(console, "memory", f"{fmt(step.peak, 'B')} at most, at {step.peak_at}")
    pair(console, "", ", ".join(f"{k} {fmt(v, 'B')}" for k, v in held.items() if plain(v)))
    if step.parts:
        pair(console, "then", ", ".join(f"{k} {fmt(v, 'B')}" for k, v in step.parts.items()))
    pair(console, "known by", str(step.evidence))
