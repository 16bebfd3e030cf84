"""Figure 14: the decision flow, with the way that a brief takes through it."""

from pharos.book.figure import Asked, Picture, figure
from pharos.decide.choose import choose_file
from pharos.decide.flowchart import flowchart
from pharos.report.flow import flow_figure


@figure(
    14, "decision-flow", "from data to an architecture, with the way a brief takes", "1.10", takes=("brief",)
)
def decision_flow(asked: Asked) -> Picture:
    """The flow of `decide.flow`; `--brief FILE` decides and marks the way."""
    chart = flowchart(choose_file(asked.brief) if asked.brief else None)
    rows = tuple((w.source, w.label, w.target, w.taken) for w in chart.ways)
    return Picture(figure=flow_figure(chart), columns=("from", "answer", "to", "taken"), rows=rows,
                   lines=tuple(chart.text()), note="=> was taken" if asked.brief else "")  # fmt: skip
