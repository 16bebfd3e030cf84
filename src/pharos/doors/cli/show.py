"""`pharos show`: what a model is made of and what one pass asks for."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pharos.doors.cli.app import (
    Batch,
    Context,
    Decode,
    Dims,
    Inputs,
    Json,
    Precision,
    Prefill,
    app,
    asked,
    console,
    print_json,
    shapes,
    sizes,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from pharos.graph.count import Count
    from pharos.passes.training import Training


@app.command()
def show(
    model: Annotated[
        str, typer.Argument(help="A name such as mobilenet_v2(width=0.75), a .onnx file, or a config.json.")
    ],
    batch: Batch = "1",
    context: Context = None,
    precision: Precision = "fp32",
    prefill: Prefill = False,
    decode: Decode = False,
    depth: Annotated[
        int | None,
        typer.Option("--depth", "-d", min=1, help="Group operators by this many parts of their names."),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", help="Group operators by block, kind or module instead.")
    ] = None,
    dim: Dims = None,
    input: Inputs = None,
    on: Annotated[
        str | None, typer.Option("--on", "-m", help="A machine that its advice is for, in a line.")
    ] = None,
    symbolic: Annotated[
        bool,
        typer.Option("--symbolic", help="Formulas in batch and context, or of a family's layer."),
    ] = False,
    primitives: Annotated[
        bool, typer.Option("--primitives", help="Elements that each computing and memory primitive handles.")
    ] = False,
    lens: Annotated[
        bool, typer.Option("--lens", help="The family's four-part card and its inductive biases.")
    ] = False,
    stages: Annotated[
        bool, typer.Option("--stages", help="Resolution and receptive field, stage by stage.")
    ] = False,
    train: Annotated[
        bool, typer.Option("--train", help="A training step: backward pass, update, what they keep.")
    ] = False,
    optimizer: Annotated[
        str, typer.Option("--optimizer", help="sgd, momentum, adam, adamw or adafactor, with --train.")
    ] = "adamw",
    checkpointing: Annotated[
        str, typer.Option("--checkpointing", help="none, layers, sqrt, or layers a group, with --train.")
    ] = "none",
    loss: Annotated[
        str, typer.Option("--loss", help="sum or cross_entropy of what the model returns, with --train.")
    ] = "sum",
    keep_gradients: Annotated[
        bool,
        typer.Option("--keep-gradients", help="zero_grad(set_to_none=False) between steps, with --train."),
    ] = False,
    json: Json = False,
) -> None:
    """Count parameters, MACs, FLOPs, bytes and intensity, per operator and in total."""
    from pharos.convert.load import load
    from pharos.convert.training import train as train_step
    from pharos.graph.count import count

    work = asked(batch, context, precision, prefill, decode)
    if symbolic:
        from pharos.report.readings import family_formulas, print_symbolic, symbolic_row

        chosen = None if family_formulas(model) else load(model, sizes(dim), shapes(input))
        row = symbolic_row(model, chosen, work)
        print_json({"schema": "pharos/symbolic@1", **row}) if json else print_symbolic(console(), row)
        return
    chosen = load(model, sizes(dim), shapes(input))
    counted = count(chosen.graph(work))
    from pharos.passes.recognise import recognise
    from pharos.report.made_of import grouping, made_of, recognition_row

    found = recognise(counted.graph, counted)
    family = chosen.family or str(counted.graph.meta.get("family", "")) or found.family
    way = int(checkpointing) if checkpointing.isdigit() else checkpointing

    def step() -> "Training":
        return train_step(chosen, work, optimizer, way, loss, not keep_gradients, counted.graph)

    readings = Readings(primitives, lens, stages, (optimizer, checkpointing), step if train else None)
    advice = []
    if on is not None:
        from pharos.decide.advice import in_passing

        advice = in_passing(chosen, counted.graph, work, on, trains=train)
    if json:
        from pharos.report.rows import show_row

        row = show_row(chosen.name, family, counted) | recognition_row(found, family)
        if on is not None:
            from pharos.report.advice import finding_row

            row["advice"] = [finding_row(f) for f in advice]
        print_json(row | readings.rows(family, counted))
        return
    told = ""
    if on is not None:
        from pharos.report.advice import quietly

        told = quietly(advice)
    from pharos.report.text import print_show

    print_show(
        console(), chosen.name, family, counted, depth, table=not readings.asked,
        made_of=made_of(found, counted), key=grouping(by, found) if by else None, advice=told,
    )  # fmt: skip
    readings.print(console(), family, counted)


@dataclass(frozen=True, slots=True)
class Readings:
    """Which readings were asked for beside the count; they stand where its table would."""

    primitives: bool
    lens: bool
    stages: bool
    asked_of_training: tuple[str, str]
    training: "Callable[[], Training] | None"

    @property
    def asked(self) -> bool:
        """Whether there is any."""
        return bool(self.primitives or self.lens or self.stages or self.training)

    def _step(self, counted: "Count") -> "tuple[Training, str, str]":
        assert self.training is not None
        return self.training(), *self.asked_of_training

    def rows(self, family: str, counted: "Count") -> dict[str, Any]:
        """As plain data, by name."""
        if not self.asked:
            return {}
        from pharos.passes.depth import depth
        from pharos.passes.receptive import stages
        from pharos.report import readings

        found: dict[str, Any] = {}
        if self.primitives:
            found["primitives"] = readings.primitives_row(counted)
        if self.lens:
            found["lens"] = readings.lens_row(family, counted, depth(counted.graph))
        if self.stages:
            found["stages"] = readings.stages_row(stages(counted.graph))
        if self.training:
            found["training"] = readings.training_row(*self._step(counted))
        return found

    def print(self, console: "Console", family: str, counted: "Count") -> None:
        """One after the other."""
        if not self.asked:
            return
        from pharos.passes.depth import depth
        from pharos.report import readings

        if self.primitives:
            readings.print_primitives(console, counted)
        if self.lens:
            readings.print_lens(console, readings.lens_row(family, counted, depth(counted.graph)))
        if self.stages:
            readings.print_stages(console, counted.graph, counted)
        if self.training:
            readings.print_training(console, *self._step(counted))
