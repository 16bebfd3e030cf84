"""Critical path: steps that must follow each other, and the time below which no machine gets."""

from pharos.book.study import Seconds, study
from pharos.graph.workload import Workload
from pharos.models.registry import find
from pharos.passes.depth import depth
from pharos.quantity.evidence import assumed, counted
from pharos.quantity.units import fmt
from pharos.report.studies import Told


@study("critical-path", "How many steps must follow each other, whatever the hardware?", section="1.4")
def critical_path(
    *,
    models: tuple[str, ...] = ("sequence_rnn(hidden=256)", "transformer-base", "mlp", "resnet50"),
    context: int = 128,
    batch: int = 1,
    step: Seconds = 5e-6,
) -> Told:
    """Dependent steps of one forward pass, results that each could compute at once, and steps x `step`.

    Args:
        step: the least time of one dependent kernel, launch included.
    """
    rows = []
    for name in models:
        rows.append((name, *_path(name, context, batch), *_path(name, 2 * context, batch)[:1]))
    table = tuple((n, steps, width, twice / steps, steps * step) for n, steps, width, twice in rows)
    longest = max(table, key=lambda r: r[3])
    return Told(
        answer=f"{longest[0]} has {longest[1]:,} dependent steps at {context} tokens, {longest[3]:.3g} times "
        f"as many at twice the tokens: at least {fmt(longest[4], 's')} on any machine",
        numbers={
            r[0]: {"steps": r[1], "parallel_width": r[2], "steps_ratio_at_twice": r[3], "least_s": r[4]}
            for r in table
        },
        reasons=(
            "steps of a recurrence wait for the state: more devices shorten none of them",
            "attention looks at all tokens in a number of steps that does not grow with them",
        ),
        columns=("model", "steps", "at_once", "at_twice", "least_s"),
        rows=table,
        evidence=(counted("depth of the graph"), assumed(f"{fmt(step, 's')} a dependent step")),
        note="at_once: results a step; at_twice: steps at twice the tokens, as a multiple",
    )


def _path(name: str, context: int, batch: int) -> tuple[int, float]:
    work = Workload(batch=batch, context=context)
    found = depth(find(name).graph(work))
    return int(found.steps), float(found.parallelism)
