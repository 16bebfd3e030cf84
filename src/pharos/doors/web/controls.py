"""Controls: the fields of a form, with what was asked in them and the stops of their sliders."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pharos.doors.web.chosen import PRECISIONS, Chosen, phase_of, usual_context
from pharos.doors.web.question import Question, Refused
from pharos.machines.machine import Machine
from pharos.predict.runtimes import KINDS as KIND_WORDS
from pharos.predict.runtimes import runtimes_of

BATCHES = tuple(2**i for i in range(13))
CONTEXTS = tuple(128 * 2**i for i in range(14))


@dataclass(frozen=True, slots=True, kw_only=True)
class Control:
    """One field.

    Args:
        kind: "number", "text", "select" or "check". value: as it stands in the form.
        options: of a menu: (value, words). stops: of the slider beside a number; none without.
        whole: a change makes the whole page anew, as other fields depend on it.
    """

    name: str
    label: str
    kind: str = "text"
    value: str = ""
    options: tuple[tuple[str, str], ...] = ()
    stops: tuple[float, ...] = ()
    hint: str = ""
    placeholder: str = ""
    whole: bool = False

    @property
    def id(self) -> str:
        """Of the element; no dots, which selectors would read."""
        return "f-" + self.name.replace(".", "-")

    @property
    def at(self) -> int:
        """The slider's stop that is nearest to the value."""
        try:
            value = float(self.value.replace("_", ""))
        except ValueError:
            return 0
        return min(range(len(self.stops)), key=lambda i: abs(self.stops[i] - value))

    @property
    def written_stops(self) -> str:
        """The stops as the page's script reads them."""
        return ",".join(f"{s:g}" if s != int(s) else str(int(s)) for s in self.stops)


def menu(name: str, label: str, value: str, options: Sequence[tuple[str, str]], **more: Any) -> Control:
    """A menu; a value that is none of its options is among them still, so that an address keeps it."""
    listed = tuple(options)
    if value not in [v for v, _ in listed]:
        listed = (*listed, (value, value))
    return Control(name=name, label=label, kind="select", value=value, options=listed, **more)


def number(name: str, label: str, value: Any, stops: Sequence[float] = (), **more: Any) -> Control:
    """A number with a slider."""
    return Control(name=name, label=label, kind="number", value=str(value), stops=tuple(stops), **more)


def workload_controls(question: Question, model: Chosen | None) -> list[Control]:
    """Phase, batch or users, context and precision, as far as the model has them."""
    decodes = model is not None and model.decodes
    longest = model.longest if model is not None else None
    found = []
    phase = question.raw("phase") or "decode"
    if model is not None and decodes:
        try:
            phase = phase_of(question, model)
        except Refused:
            phase = "decode"
        found.append(menu("phase", "Phase", phase, (
            ("decode", "decode: a token for each user"), ("prefill", "prefill: prompts go in"),
            ("forward", "forward: every position"),
        )))  # fmt: skip
    users = "Users at once" if decodes and phase == "decode" else "Batch"
    found.append(number("batch", users, question.raw("batch") or 1, BATCHES))
    if decodes or question.has("context"):
        stops = [c for c in CONTEXTS if longest is None or c <= longest] or list(CONTEXTS[:4])
        usual = str(usual_context(model)) if model is not None and decodes else ""
        hint = f"tokens; the model was made for {longest:,}" if longest else "tokens of a sequence"
        found.append(number("context", "Context", question.raw("context") or usual, stops,
                            hint=hint))  # fmt: skip
    found.append(precision_control(question, "bf16" if decodes else "fp32"))
    return found


def precision_control(question: Question, default: str) -> Control:
    """Element types."""
    return menu("precision", "Precision", question.raw("precision") or default, [(p, p) for p in PRECISIONS])


def runtime_control(question: Question, machines: Sequence[Machine]) -> Control:
    """What runs it, for the kind of the first machine."""
    kind = machines[0].kind if machines else "gpu"
    words = f"usual of a {KIND_WORDS[kind]}"
    return menu(
        "runtime", "Runtime", question.raw("runtime"), [("", words), *((n, n) for n in runtimes_of(kind))]
    )


def knobs(question: Question, model: Chosen | None) -> list[Control]:
    """Hyperparameters of the architecture."""
    if model is None:
        return []
    found = []
    for key, default in list(model.knobs.items())[:12]:
        value = model.given.get(key, default)
        name, label = f"h.{key}", key.replace("_", " ").capitalize()
        if isinstance(default, bool):
            found.append(menu(name, label, str(value), (("True", "yes"), ("False", "no"))))
        elif isinstance(default, str):
            found.append(Control(name=name, label=label, value=str(value)))
        else:
            shown = f"{value:g}" if isinstance(value, float) else str(value)
            found.append(number(name, label, shown, _stops(key, default), hint=f"usual {default}"))
    return found


def _stops(key: str, default: float) -> list[float]:
    if isinstance(default, float):
        return [0.1, 0.25, 0.35, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0] if default <= 3 else []
    if key == "resolution":
        step = 32 if default >= 96 else 8
        return [float(step * i) for i in range(2, 33)]
    if default > 4096:
        return []
    made = {max(1, round(default * f)) for f in (0.25, 0.5, 0.75, 1, 1.25, 1.5, 2, 3, 4)}
    return [float(v) for v in sorted(made)]


LIMITS = (
    ("latency", "Latency at most", "s", "10 ms"), ("throughput", "Throughput at least", "1/s", "100 /s"),
    ("memory", "Memory at most", "B", "512 MB"), ("energy", "Energy a step at most", "J", "15 mJ"),
    ("power", "Power at most", "W", "2 W"),
)  # fmt: skip


def limit_controls(question: Question) -> list[Control]:
    """Limits that the answer is held against."""
    return [Control(name=f"limit.{n}", label=label, value=question.raw(f"limit.{n}"), placeholder=example)
            for n, label, _, example in LIMITS]  # fmt: skip


def limits_of(question: Question) -> dict[str, float]:
    """Limits in SI units.

    Raises:
        Refused: a figure that is none.
    """
    found = {n: question.positive(f"limit.{n}", unit) for n, _, unit, _ in LIMITS}
    return {n: v for n, v in found.items() if v is not None}
