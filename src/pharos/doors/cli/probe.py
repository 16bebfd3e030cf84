"""`pharos probe`: which family learns these data from fewest examples, by training small members of each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pharos.doors.cli.app import Json, app, console, number, print_json, write_whole
from pharos.quantity.errors import InputError

if TYPE_CHECKING:
    from pharos.decide.probe import Probe


@app.command()
def probe(
    path: Annotated[
        str, typer.Argument(help="A table, JSON Lines, NPZ of x and y, or a folder with a folder a class.")
    ],
    families: Annotated[
        str | None,
        typer.Option("--families", "-f", help="Such as mlp,cnn; the best matches and the MLP if left out."),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", help="Size of every member: 20k, or 1e6 macs; by what fits if left out."),
    ] = None,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Repetitions of every size.")] = 3,
    time: Annotated[str, typer.Option("--time", help="For the whole, such as 120s or 5min.")] = "120s",
    shuffle: Annotated[
        bool, typer.Option("--shuffle", help="The same again with pixels or steps exchanged.")
    ] = False,
    label: Annotated[
        str | None, typer.Option("--label", help="Column or key to learn, if it has an unusual name.")
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", help="An accuracy to reach, such as 95%: samples that takes.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--at", help="Labels to extrapolate to; those of the data if left out.")
    ] = None,
    sizes: Annotated[
        str | None, typer.Option("--sizes", help="Sample sizes, such as 50,100,200; by the time if left out.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of everything that is random.")] = 0,
    report: Annotated[
        list[Path] | None,
        typer.Option("--report", "-o", help="Also write curves: .svg, .png, .html, or .json; repeatable."),
    ] = None,
    json: Json = False,
) -> None:
    """Train small members of the candidate families on labelled data: learning curves, verdict, exit 0.

    Exit 3 where the families cannot be told apart.
    """
    from pharos.decide.probe import Asked
    from pharos.decide.probe import probe as run
    from pharos.decide.probe_verdict import verdict_of
    from pharos.doors.cli.progress import watched
    from pharos.quantity.units import parse
    from pharos.report.drawing import SUFFIXES

    for one in report or ():
        if one.suffix.lower() not in SUFFIXES:
            raise InputError(f"{one.suffix or 'no suffix'} is no form of a report", where="--report",
                             hint=f"one of {', '.join(SUFFIXES)}")  # fmt: skip
    by, limit = _budget(budget)
    share = None if target is None else _share(target)
    asked = Asked(
        families=tuple(f.strip().lower() for f in (families or "").split(",") if f.strip()),
        by=by, budget=limit, seeds=seeds, time_s=parse(time, "s"), shuffle=shuffle, label=label,
        target=None if share is None else 1 - share, size=number(size, "at"), seed=seed,
        sizes=tuple(number(s, "sizes") or 0 for s in (sizes or "").split(",") if s.strip()),
    )  # fmt: skip
    with watched("probing") as (tick, told):
        found = run(path, asked, tick, told)
    for one in report or ():
        _write(one, found)
    if json:
        from pharos.report.probes import probe_row

        print_json(probe_row(found))
    else:
        from pharos.report.probes import print_probe

        print_probe(console(), found)
    verdict = verdict_of(found)
    if not verdict.clear and len(found.families) > 1:
        raise typer.Exit(3)


def _budget(text: str | None) -> tuple[str, float | None]:
    """What is counted and how many: `20k`, `20k parameters`, `1e6 macs`."""
    if text is None:
        return "parameters", None
    amount, _, unit = text.strip().partition(" ")
    kinds = {
        "": "parameters",
        "parameters": "parameters",
        "params": "parameters",
        "macs": "macs",
        "mac": "macs",
    }
    if amount.lower() in kinds and amount:
        return kinds[amount.lower()], None
    if unit.strip().lower() not in kinds:
        raise InputError(f"{unit.strip()!r} is not counted", where="--budget", hint="parameters or macs")
    found = number(amount, "budget")
    if not found or found < 1:
        raise InputError(f"must be above 0, not {amount}", where="--budget")
    return kinds[unit.strip().lower()], float(found)


def _share(text: str) -> float:
    from pharos.quantity.units import parse

    value = parse(text, "1")
    if not 0 < value < 1:
        raise InputError(f"must lie between 0 and 1 (or 0% and 100%), not {text}", where="--target")
    return value


def _write(path: Path, found: "Probe") -> None:
    if path.suffix.lower() == ".json":
        from json import dumps

        from pharos.report.probes import probe_row

        write_whole(path, dumps(probe_row(found), indent=2, allow_nan=False))
        return
    from pharos.report.probes import probe_figure

    probe_figure(found).save(path)
