"""Lighthouses 1.4 and 1.5, of language and recommendation, beside the chapter's boxes."""

from pharos.book.claims.recsys import is_network_first
from pharos.book.sums import band, bandwidth, counted, estimate, machine, memory, per_byte
from pharos.book.table import COUNTED, DERIVED, PREDICTED, Asked, Cell, Filled, cell, table
from pharos.book.tables.boxes import filled, parts, place, what
from pharos.book.tables.lighthouses import CONTEXT, binding_note, known
from pharos.quantity.units import fmt, fmt_count


@table("1.4", "gpt2-xl", "Lighthouse 1.4: GPT-2 XL", "1.6", heeds=("machine", "batch"))
def gpt2(asked: Asked) -> Filled:
    """Size, work a token, what binds each phase, tokens a second by machine."""
    name, at = asked.model("gpt2-xl"), place("1.4")
    found = counted(name, "decode", context=1)
    precision = known(asked.machine, "fp16")
    step = estimate(name, asked.machine, "decode", asked.batch, CONTEXT, precision)
    prompt = estimate(name, asked.machine, "prefill", 32, CONTEXT, precision)
    binds = str(step.binding)
    rates = []
    for on in dict.fromkeys((asked.machine, "nvidia_h100_sxm5", "nvidia_v100_sxm2_16gb", "apple_m2_max")):
        known_as = known(on, "fp16")
        rate = estimate(name, on, "decode", 1, CONTEXT, known_as).throughput_per_s
        most = bandwidth(on) / float(counted(name, precision=known_as).weight_bytes)
        rates.append((machine(on).name, float(rate or 0), most))
    by = {
        p: per_byte(counted(name, "decode", context=1, precision=p), "weights_only") for p in ("fp32", "fp16")
    }
    fits = found.weight_bytes < memory(asked.machine)
    read, taken = float(counted(name, precision=precision).weight_bytes), band(step)[1]
    return filled(
        {
            "parameters": (
                at("parameters", "value", found.parameters, fmt_count(found.parameters, 4)),
                at(
                    "parameters",
                    "implication",
                    str(step.regime),
                    f"reading {fmt(read, 'B')} at full bandwidth takes "
                    f"{read / bandwidth(asked.machine) / taken:.0%} of a "
                    "token's predicted time",
                    PREDICTED,
                ),
            ),
            "model size": (
                at("model size", "value", found.weight_bytes, f"{fmt(found.weight_bytes, 'B')} in fp32"),
                at(
                    "model size",
                    "implication",
                    fits,
                    f"{'fits' if fits else 'does not fit'} {machine(asked.machine).name}; at most "
                    f"{bandwidth(asked.machine) / found.weight_bytes:.0f} tokens/s in fp32",
                ),
            ),
            "compute": (
                at(
                    "compute",
                    "value",
                    found.flops,
                    f"{fmt_count(found.macs)} MACs = {fmt_count(found.flops)} FLOPs a token",
                ),
                at("compute", "implication", parts(step), parts(step), PREDICTED),
            ),
            "constraint": (
                at(
                    "constraint",
                    "value",
                    binds,
                    f"{binds} ({what(step, f'{CONTEXT:,} tokens', asked)})",
                    PREDICTED,
                    note=binding_note(step),
                ),
                at(
                    "constraint",
                    "implication",
                    {n: r for n, r, _ in rates},
                    "; ".join(f"{n} {r:.0f} of at most {m:.0f} tokens/s" for n, r, m in rates),
                    PREDICTED,
                ),
            ),
            "profile": (
                at(
                    "profile",
                    "value",
                    by["fp32"],
                    f"{by['fp32']:.2g} FLOP/B in fp32, {by['fp16']:.2g} in fp16",
                    DERIVED,
                    note="1 is of fp16 weights; the same box has the 6 GB of fp32",
                ),
                at(
                    "profile",
                    "implication",
                    [str(prompt.regime), str(step.regime)],
                    f"32 prompts of {CONTEXT:,} at once: {prompt.regime}; a token: {step.regime}",
                    PREDICTED,
                ),
            ),
        },
        machine(asked.machine).name,
    )


@table("1.5", "dlrm", "Lighthouse 1.5: DLRM", "1.7", heeds=("machine", "batch"))
def dlrm(asked: Asked) -> Filled:
    """Elements of the tables, bytes, devices, what binds first."""
    name, at = asked.model("dlrm-mlperf"), place("1.5")
    found = counted(name)
    tables = [line for line in found.lines if line.kind in ("embedding_bag", "embedding")]
    elements = sum(int(line.parameters * line.times) for line in tables)
    rows = sum(int(line.node.op.weights()["weight"][0] * line.times) for line in tables)
    room = memory(asked.machine)
    est = estimate(name, asked.machine, batch=asked.batch, precision="fp32")
    binds, network = str(est.binding), is_network_first().value
    dense = float(found.parameters) - elements
    needed = int(-(-float(found.weight_bytes) // room))
    over = found.weight_bytes > room
    return filled(
        {
            "embedding tables": (
                at(
                    "embedding tables",
                    "value",
                    elements,
                    f"{fmt_count(elements)} elements, {fmt_count(rows)} rows",
                    note=("MLPerf's DLRM; elements, not rows"),
                ),
                at(
                    "embedding tables",
                    "implication",
                    elements / found.parameters,
                    f"{elements / found.parameters:.2%} of all parameters, {len(tables)} tables",
                ),
            ),
            "model size": (
                at("model size", "value", found.weight_bytes, f"{fmt(found.weight_bytes, 'B')} in fp32"),
                at(
                    "model size",
                    "implication",
                    needed > 1,
                    f"{needed} of {machine(asked.machine).name} by size alone",
                ),
            ),
            "constraint": (
                at(
                    "constraint",
                    "value",
                    binds,
                    f"{binds} ({what(est, 'batch 1', asked)})",
                    PREDICTED,
                    note=binding_note(est),
                ),
                at(
                    "constraint",
                    "implication",
                    over,
                    f"{fmt(float(found.weight_bytes), 'B')} against {fmt(room, 'B')}",
                ),
            ),
            "bottleneck": (
                at(
                    "bottleneck",
                    "value",
                    "network" if network else "memory-bandwidth",
                    "network, once it is sharded" if network else "gathers, once it is sharded",
                    DERIVED,
                    note="8 A100: the exchange of looked-up rows against their gathering",
                ),
                Cell(
                    value=network,
                    text="the exchange takes longer than the gathers" if network else "gathers take longer",
                    how=DERIVED,
                    printed=cell(("1.5", "bottleneck", "implication"), None).printed,
                ),
            ),
            "profile": (
                Cell(
                    value=elements,
                    text=f"{fmt_count(elements)} sparse, {fmt_count(dense)} dense parameters",
                    how=COUNTED,
                    printed=cell(("1.5", "profile", "value"), None).printed,
                ),
                at(
                    "profile",
                    "implication",
                    float(found.macs),
                    f"{fmt_count(found.macs)} MACs a sample, none of them in the lookups",
                ),
            ),
        },
        f"{machine(asked.machine).name}",
    )
