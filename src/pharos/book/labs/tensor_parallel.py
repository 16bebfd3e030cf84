"""Tensor parallelism: an MLP cut by columns, then by rows, between processes."""

from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.processes import Wire, spawn
from pharos.plan.collectives import find_collective
from pharos.report.labs import Check, Outcome

NAME = "tensor-parallel"
TOKENS, WIDTH, HIDDEN = 32, 48, 96
# Largest difference from the whole network, relative to the largest value: sums in fp32 in another order.
TOLERANCE = 1e-5


@lab(NAME, "an MLP cut over processes equals the whole one, and sends what two all-reduces do",
     processes=2, fewest=2, most=8)  # fmt: skip
def tensor_parallel(setting: Setting, progress: Progress) -> Outcome:
    """Forward and backward of y = gelu(x A) B: A by columns, B by rows; one all-reduce each way."""
    n = setting.processes
    hidden, width = HIDDEN * n, WIDTH * n
    progress(0, 2, f"{n} processes")
    found = spawn("pharos.book.labs.tensor_parallel:worker", n,
                  {"seed": setting.seed, "tokens": TOKENS, "width": width, "hidden": hidden},
                  setting.timeout_s)  # fmt: skip
    progress(1, 2, "comparing")
    planned = round(find_collective("all-reduce").moves("ring", n, TOKENS * width * 4).sent())
    rows, exact = [], True
    for name in ("forward", "backward"):
        for rank, one in enumerate(found):
            rows.append((name, rank, planned, one["sent"].get(name, 0)))
            exact &= one["sent"].get(name, 0) == planned
    exact &= all(set(one["sent"]) == {"forward", "backward"} for one in found)
    worst = max(one["difference"] for one in found)
    progress(2, 2, "done")
    return Outcome(
        name=NAME, summary="column-parallel, then row-parallel: one all-reduce forward, one backward",
        settings={"processes": n, "seed": setting.seed, "tokens": TOKENS, "width": width, "hidden": hidden},
        columns=("pass", "process", "planned_bytes", "counted_bytes"), rows=tuple(rows),
        checks=(
            Check(what="equals the whole MLP, outputs and gradients",
                  found=f"largest difference {worst:.1e} of the largest value, {TOLERANCE:.0e} allowed",
                  holds=worst <= TOLERANCE),
            Check(what="bytes sent are the plan's", found="exactly" if exact else "not so", holds=exact),
        ),
        note="planned: 2 (n - 1) / n of the activations, an all-reduce; counted where they are sent",
        data={"difference": worst, "exact": exact},
    )  # fmt: skip


def worker(wire: Wire, settings: dict[str, Any]) -> dict[str, Any]:
    """One process: its columns of A and rows of B."""
    import torch

    torch.manual_seed(settings["seed"])
    tokens, width, hidden = settings["tokens"], settings["width"], settings["hidden"]
    x = torch.randn(tokens, width, requires_grad=True)
    a, b = (torch.randn(s) / s[0] ** 0.5 for s in ((width, hidden), (hidden, width)))
    wanted = torch.randn(tokens, width)
    each = hidden // wire.size
    mine = slice(wire.rank * each, (wire.rank + 1) * each)
    whole = [t.clone().requires_grad_() for t in (a, b)]
    y = torch.nn.functional.gelu(x @ whole[0]) @ whole[1]
    ((y - wanted) ** 2).sum().backward()

    part_x = x.detach().clone().requires_grad_()
    parts = [t.clone().requires_grad_() for t in (a[:, mine], b[mine])]
    partial = torch.nn.functional.gelu(part_x @ parts[0]) @ parts[1]
    summed = wire.all_reduce("forward", partial.detach().reshape(-1)).reshape(tokens, width)
    # every process has the whole output, so its gradient needs no message; that of x is a sum of parts
    partial.backward(2 * (summed - wanted))
    assert part_x.grad is not None
    assert x.grad is not None
    grad_x = wire.all_reduce("backward", part_x.grad.reshape(-1)).reshape(tokens, width)
    grads: list[Any] = [w.grad for w in whole]
    pairs: tuple[tuple[Any, Any], ...] = (
        (summed, y), (grad_x, x.grad), (parts[0].grad, grads[0][:, mine]), (parts[1].grad, grads[1][mine]),
    )  # fmt: skip
    return {"difference": max(float((p - q).abs().max() / q.abs().max()) for p, q in pairs)}
