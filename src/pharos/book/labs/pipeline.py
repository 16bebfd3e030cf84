"""Pipelines: transformer blocks as stages in processes, micro-batches one forward, one backward."""

from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.processes import Wire, spawn
from pharos.plan.collectives import find_collective
from pharos.report.labs import Check, Outcome

NAME = "pipeline"
MICRO_BATCHES, SEQUENCES, TOKENS, WIDTH, HEADS = 4, 2, 8, 32, 4
# Relative to the largest value: sums over micro-batches in fp32 in another order.
TOLERANCE = 1e-5


@lab(NAME, "transformer blocks as stages give the whole network's gradients; activations and gradients cross",
     processes=2, fewest=2, most=8)  # fmt: skip
def pipeline(setting: Setting, progress: Progress) -> Outcome:
    """1F1B (Narayanan et al. 2021): a stage warms up, then alternates, so that few micro-batches are held."""
    n = setting.processes
    progress(0, 2, f"{n} processes")
    settings = {"seed": setting.seed, "micro_batches": MICRO_BATCHES, "sequences": SEQUENCES,
                "tokens": TOKENS, "width": WIDTH, "heads": HEADS}  # fmt: skip
    found = spawn("pharos.book.labs.pipeline:worker", n, settings, setting.timeout_s)
    progress(1, 2, "comparing")
    one_way = find_collective("send-recv").moves("direct", n, SEQUENCES * TOKENS * WIDTH * 4).sent()
    crossing = MICRO_BATCHES * one_way
    rows, exact = [], True
    for stage, one in enumerate(found):
        for name, planned in (("activations", crossing * (stage < n - 1)),
                              ("gradients", crossing * (stage > 0))):  # fmt: skip
            counted = one["sent"].get(name, 0)
            rows.append((name, stage, planned, counted))
            exact &= counted == planned
    worst = max(one["difference"] for one in found)
    held = [one["held"] for one in found]
    bound = [min(n - s, MICRO_BATCHES) for s in range(n)]
    progress(2, 2, "done")
    return Outcome(
        name=NAME, summary="a block a stage, 1F1B; activations of micro-batches cross, then their gradients",
        settings={"processes": n, "seed": setting.seed, "micro_batches": MICRO_BATCHES,
                  "micro_batch": f"{SEQUENCES} x {TOKENS} tokens", "width": WIDTH},
        columns=("moves", "stage", "planned_bytes", "counted_bytes"), rows=tuple(rows),
        checks=(
            Check(what="gradients equal the unpipelined network's",
                  found=f"largest difference {worst:.1e} of the largest value, {TOLERANCE:.0e} allowed",
                  holds=worst <= TOLERANCE),
            Check(what="bytes sent are the plan's", found="exactly" if exact else "not so", holds=exact),
            Check(what="micro-batches held by a stage are at most stages left",
                  found=f"{held}, at most {bound}", holds=held == bound),
        ),
        note="planned: micro-batches x sequences x tokens x width x 4 B over each boundary",
        data={"difference": worst, "exact": exact, "held": held},
    )  # fmt: skip


def worker(wire: Wire, settings: dict[str, Any]) -> dict[str, Any]:
    """One stage."""
    import torch

    torch.manual_seed(settings["seed"])
    width, count = settings["width"], settings["micro_batches"]
    blocks = [
        torch.nn.TransformerEncoderLayer(width, settings["heads"], 4 * width, dropout=0.0, batch_first=True,
                                         norm_first=True)
        for _ in range(wire.size)
    ]  # fmt: skip
    shape = (settings["sequences"], settings["tokens"], width)
    inputs = [torch.randn(shape) for _ in range(count)]
    wanted = [torch.randn(shape) for _ in range(count)]

    def loss_of(y: Any, i: int) -> Any:
        return ((y - wanted[i]) ** 2).mean() / count

    y = torch.cat(inputs)
    for block in blocks:
        y = block(y)
    sum(loss_of(part, i) for i, part in enumerate(y.split(shape[0]))).backward()  # type: ignore[union-attr]
    mine = blocks[wire.rank]
    reference = [p.grad.clone() for p in mine.parameters()]  # type: ignore[union-attr]
    mine.zero_grad()

    stage, last = wire.rank, wire.size - 1
    flying: dict[int, tuple[Any, Any]] = {}
    most = 0

    def forward(i: int) -> None:
        nonlocal most
        x = inputs[i] if stage == 0 else _take(wire, stage - 1, shape)
        x = x.detach().requires_grad_(stage > 0)
        out = mine(x)
        if stage < last:
            wire.post("activations", stage + 1, out)
        flying[i] = (x, loss_of(out, i) if stage == last else out)
        most = max(most, len(flying))

    def backward(i: int) -> None:
        x, out = flying.pop(i)
        out.backward(None if stage == last else _take(wire, stage + 1, shape))
        if stage > 0:
            wire.post("gradients", stage - 1, x.grad)

    warm = min(last - stage, count)
    for i in range(warm):
        forward(i)
    for i in range(count - warm):
        forward(warm + i)
        backward(i)
    for i in range(count - warm, count):
        backward(i)
    wire.settle()
    grads: list[Any] = [p.grad for p in mine.parameters()]
    worst = max(
        float((p - q).abs().max() / q.abs().max().clamp_min(1e-6))
        for p, q in zip(grads, reference, strict=True)
    )
    return {"difference": worst, "held": most}


def _take(wire: Wire, source: int, shape: tuple[int, ...]) -> Any:
    import torch

    return wire.exchange("", {}, {source: (shape, torch.float32)})[source]
