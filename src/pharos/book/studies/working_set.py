"""Working set: which memory of a machine holds what an operator or a network needs at once."""

from pharos.book.study import study
from pharos.book.sums import layers, machine_file
from pharos.graph.count import Count, count
from pharos.graph.workload import Workload
from pharos.machines.machine import Machine, find_machine
from pharos.models.registry import find
from pharos.ops.linear import Linear
from pharos.quantity.errors import PharosError, unknown
from pharos.quantity.evidence import Evidence, counted
from pharos.quantity.sizes import is_int
from pharos.quantity.units import fmt, parse
from pharos.report.studies import Told

OF = ("dense", "layers", "network")


@study("working-set", "Which memory level of a machine holds what is needed at once?", section="1.9")
def working_set(
    *,
    of: str = "dense",
    inputs: int = 784,
    outputs: int = 100,
    model: str = "resnet50",
    batch: int = 1,
    context: int = 0,
    precision: str = "fp32",
    on: str = "a100-sxm-80gb",
) -> Told:
    """Weights, inputs, outputs and scratch of one operator, or all weights and the largest of these.

    Args:
        of: dense (inputs, outputs), layers (of the model, one at a time) or network (weights and the largest
            layer's activations).
    """
    if of not in OF:
        raise unknown("of", of, OF)
    machine = find_machine(on)
    levels = levels_of(machine)
    made = (
        layers((batch, inputs), Linear(inputs, outputs), precision=precision)
        if of == "dense"
        else count(_graph(model, batch, context, precision))
    )
    sets = _sets(made)
    if of == "network":
        sets = {model: float(made.weight_bytes) + max(_activations(made).values())}
    largest = max(sets, key=lambda k: sets[k])
    level = held_by(sets[largest], levels)
    rows = []
    for name, (size, rate, _) in levels.items():
        fit = None if size is None else sum(s <= size for s in sets.values())
        rows.append((name, size, rate, fit, None if size is None else sets[largest] <= size))
    what = f"{inputs} x {outputs} dense layer" if of == "dense" else largest
    return Told(
        answer=f"{what} in {precision} needs {fmt(sets[largest], 'B')} at once: {level} of {machine.id} "
        + ("holds it" if level != "no known level" else "holds it, unless one that is unknown does"),
        numbers={
            "working_set_bytes": sets[largest],
            "level": None if level == "no known level" else level,
            "operators": len(sets),
            **{f"{name.replace(' ', '_')}_bytes": size for name, (size, _, _) in levels.items()},
        },
        reasons=(
            "what a level holds is fetched from the next once, not at every use",
            "a level that the catalogue does not know stays unknown: it is not taken to be absent",
        ),
        columns=("level", "bytes", "bytes_per_s", "operators_held", "holds_the_largest"),
        rows=tuple(rows),
        evidence=(counted("weights, inputs, outputs and scratch"), *(e for _, _, e in levels.values())),
        note="registers and scratchpad: of all cores together; usable bytes where the catalogue tells them",
    )


def levels_of(machine: Machine) -> dict[str, tuple[float | None, float | None, Evidence]]:
    """(bytes, bytes a second, how known) of each level, nearest first; None where nobody knows."""
    found: dict[str, tuple[float | None, float | None, Evidence]] = {}
    memory = _memory(machine)
    pad, cores = memory.get("scratchpad") or {}, machine.cores.value
    rate = (_memory(machine, "measured") or {}).get("l1_shared_bandwidth_peak_bytes_per_s")
    for name, keys in (
        ("registers", ("register_file_bytes_per_core",)),
        ("scratchpad", ("usable_bytes_per_core", "vmem_bytes_per_core", "bytes_per_core")),
    ):
        each = next((parse(pad[k], "B") for k in keys if pad.get(k) is not None), None)
        size = each * cores if each is not None and cores else None
        fast = parse(rate, "B/s") if rate is not None and name == "scratchpad" else None
        found[name] = size, fast, machine.cores.evidence
    cache = (memory.get("cache") or {}).get("bandwidth_bytes_per_s")
    found["cache"] = (
        machine.cache_bytes.value,
        None if cache is None else parse(cache, "B/s"),
        machine.cache_bytes.evidence,
    )
    main = machine.capacity_bytes
    found["main memory"] = main.value, machine.bandwidth_bytes_per_s.value, main.evidence
    return found


def held_by(size: float, levels: dict[str, tuple[float | None, float | None, Evidence]]) -> str:
    """The nearest known level that holds so many bytes."""
    return next((n for n, (held, _, _) in levels.items() if held and size <= held), "no known level")


def _memory(machine: Machine, section: str = "memory") -> dict:
    try:
        return machine_file(machine.id).get(section) or {}
    except PharosError:
        # a machine of one's own: what its file has beside the catalogue's figures is not read
        return {}


def _graph(model: str, batch: int, context: int, precision: str):
    work = Workload(batch=batch, context=context or None, precision=precision)  # type: ignore[arg-type]
    return find(model).graph(work)


def _sets(made: Count) -> dict[str, float]:
    """Bytes that each operator touches in one run."""
    return {
        ln.name: float(ln.traffic.total) for ln in made.lines if ln.traffic.total and ln.cost_class != "view"
    }


def _activations(made: Count) -> dict[str, float]:
    return {
        ln.name: float(sum(t.nbytes for t in ln.node.io)) + float(ln.node.op.workspace(*ln.node.io))
        for ln in made.lines
        if is_int(ln.times)
    }
