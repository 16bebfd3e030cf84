"""Lookup: attention as a table asked by likeness, beside a hash table; what its heads have in common."""

from itertools import combinations
from math import log, sqrt
from statistics import median
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.lines import lines
from pharos.book.sums import attends
from pharos.book.sums import run as by_loops
from pharos.book.trials import apart, descend, over, seeded
from pharos.graph.graph import Builder, Graph
from pharos.models.blocks import split_heads
from pharos.ops.attention import Attention
from pharos.ops.embedding import Embedding
from pharos.ops.linear import Linear
from pharos.ops.shape_ops import Reshape, Transpose
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "lookup"
WIDTH, QUERIES = 64, 200
TABLES = (16, 256, 4096)
NOISES = (0.0, 0.5, 1.0, 2.0)
# Network of the second part: symbols, pairs in a sequence, width, heads.
SYMBOLS, PAIRS, DIM, HEADS, BATCH = 16, 8, 32, 4, 64


@lab(NAME, "attention as a lookup that has gradients, against a hash table; likeness of trained heads")
def lookup(setting: Setting, progress: Progress) -> Outcome:
    """Retrieval by size of the table, noise of the query and scale; then heads of a network that recalls."""
    tables = TABLES[:2] if setting.small else TABLES
    found: dict[tuple[int, float, str], dict[str, float]] = {}
    for i, size in enumerate(tables):
        progress(i, len(tables) + 2, f"tables of {size}")
        for noise in NOISES:
            found |= {(size, noise, how): got for how, got in _retrieved(size, noise, setting.seed).items()}
    progress(len(tables), len(tables) + 2, "gradient and forms")
    slope = _slope(setting.seed)
    seeds = range(setting.seed, setting.seed + (1 if setting.small else 3))
    progress(len(tables) + 1, len(tables) + 2, "training heads")
    heads = [_heads(5 if setting.small else 500, seed) for seed in seeds]
    progress(len(tables) + 2, len(tables) + 2, "done")
    rows = [
        *((f"table of {n}", how, f"noise {noise:g}", got["right"], got["weight"], got["macs"])
          for (n, noise, how), got in found.items()),
        *((f"head {h + 1}", "trained", "whole recalls " + f"{one['right']:.2f}", one["without"][h],
           one["entropy"][h], "") for one in heads[:1] for h in range(HEADS)),
    ]  # fmt: skip
    points = [
        {"noise of the query": noise, "share found": got["right"], "lookup": how, "table": f"{n} rows"}
        for (n, noise, how), got in found.items()
    ]  # fmt: skip
    return Outcome(
        name=NAME, summary=f"keys of {WIDTH} numbers of unit variance, asked by a key with noise of so many "
        f"lengths",
        settings={"seed": setting.seed, "queries": QUERIES, "seeds_of_heads": len(seeds), "heads": HEADS},
        columns=("measured", "lookup", "at", "right", "weight", "macs"), rows=tuple(rows),
        checks=(
            Check(what="attention by explicit loops and by PyTorch gives the same",
                  found=f"{slope['forms']:.1e} apart, 1e-05 allowed", holds=slope["forms"] <= 1e-5),
            Check(what="its gradient by the query is that of finite differences",
                  found=f"{slope['apart']:.1e} apart, 1e-05 allowed", holds=slope["apart"] <= 1e-5),
        ),
        findings=findings(found, slope, heads, trained=not setting.small),
        note="right: share of queries whose own row is found; weight: attention's weight on it, for heads "
        "the "
        "entropy of their weights over the largest possible; right of a head: what is recalled without "
        "it; macs "
        "of one query by the operator's rule, a hash table needs one probe",
        figure=lines(
            points, "noise of the query", "share found", "lookup", name=NAME, points=True, panel="table",
            title="What is found by a query with noise",
            alt="Share of rows found over the noise of the query, a panel each size of table: a hash "
            "table finds "
            "all without noise and none with any; sharp attention falls slowly, sooner in large tables",
            source=f"random keys of {WIDTH} numbers, {QUERIES} queries; noise as a share of a key's length",
        ),
        data={"heads": heads, "gradient": slope},
    )  # fmt: skip


def _retrieved(size: int, noise: float, seed: int) -> dict[str, dict[str, float]]:
    """Share of queries answered with their own row, and attention's weight on it, by kind of lookup."""
    import numpy as np
    import torch

    found = {}
    with seeded(seed):
        # entries of unit variance, for which the scale is made
        keys = sqrt(WIDTH) * torch.nn.functional.normalize(torch.randn(size, WIDTH), dim=1)
        asked = torch.arange(QUERIES) % size
        strayed = torch.nn.functional.normalize(torch.randn(QUERIES, WIDTH), dim=1)
        queries = keys[asked] + noise * sqrt(WIDTH) * strayed
        # what a row holds: a code of its own, so that a mixture shows
        values = torch.sign(torch.randn(size, 32))
    table = {key.numpy().tobytes(): i for i, key in enumerate(keys)}
    hits = [table.get(query.numpy().tobytes()) == int(i) for query, i in zip(queries, asked, strict=True)]
    found["hash table"] = {"right": float(np.mean(hits)), "weight": float(np.mean(hits)), "macs": 0}
    shape = (1, 1, size, WIDTH)
    for how, scale in (("attention, 1/root d", None), ("attention, 4/root d", 4 / sqrt(WIDTH))):
        op = Attention(scale=scale)
        attend = op.torch(torch)
        mixed = attend(queries[None, None], keys[None, None], values[None, None])[0, 0]
        # the row whose code is nearest to what came out
        nearest = (mixed @ values.T).argmax(1)
        weights = attend(queries[None, None], keys[None, None], torch.eye(size)[None, None])[0, 0]
        macs = attends(op, (1, 1, 1, WIDTH), shape, (1, 1, size, 32)).macs
        found[how] = {
            "right": float((nearest == asked).float().mean()),
            "weight": float(weights[torch.arange(QUERIES), asked].mean()), "macs": int(macs),
        }  # fmt: skip
    return found


def _slope(seed: int) -> dict[str, float]:
    """Gradient of what is found by the query, beside finite differences; loops beside PyTorch."""
    import torch

    with seeded(seed):
        q = torch.randn(1, 1, 1, 8).double().requires_grad_()
        k, v = torch.randn(1, 1, 6, 8).double(), torch.randn(1, 1, 6, 3).double()
    op = Attention()
    attend = op.torch(torch)
    (grad,) = torch.autograd.grad(attend(q, k, v).sum(), q)
    step = 1e-5
    with torch.no_grad():
        moves = [step * row.reshape(1, 1, 1, 8) for row in torch.eye(8).double()]
        rise = [float((attend(q + m, k, v) - attend(q - m, k, v)).sum()) / (2 * step) for m in moves]
        forms = apart(attend(q, k, v).numpy(), by_loops(op, q.numpy(), k.numpy(), v.numpy()))
    return {"apart": apart(rise, grad.flatten().numpy()), "norm": float(grad.norm()), "forms": forms}


def recaller(batch: int = BATCH) -> Graph:
    """Pairs of symbols and a question: attention over the pairs' first symbols answers with the second.

    Outputs: logits, and the queries and keys by head, of which the weights are made.
    """
    g = Builder("recaller")
    first = g.input("first", (batch, PAIRS), "int64")
    second = g.input("second", (batch, PAIRS), "int64")
    asked = g.input("asked", (batch, 1), "int64")
    embedded = g("key", Embedding(SYMBOLS, DIM), first)
    question = g("question", Embedding(SYMBOLS, DIM), asked, tied={"weight": "key.weight"})
    held = g("value", Embedding(SYMBOLS, DIM), second)
    each = DIM // HEADS
    q = split_heads(g, g("q", Linear(DIM, DIM, False), question), HEADS, each, "q")
    k = split_heads(g, g("k", Linear(DIM, DIM, False), embedded), HEADS, each, "k")
    v = split_heads(g, g("v", Linear(DIM, DIM, False), held), HEADS, each, "v")
    y = g("attention", Attention(), q, k, v)
    y = g("flat", Reshape((batch, DIM)), g("swap", Transpose((0, 2, 1, 3), view=True), y))
    y = g("out", Linear(DIM, DIM, False), y)
    return g.finish(g("logits", Linear(DIM, SYMBOLS), y), q, k)


def _heads(steps: int, seed: int) -> dict[str, Any]:
    """Heads after training: entropy of each, likeness of each two, and what is recalled without each."""
    from pharos.convert.to_torch import to_torch

    with seeded(seed) as torch:
        made = to_torch(recaller())

        def drawn() -> tuple[Any, Any]:
            first = torch.stack([torch.randperm(SYMBOLS)[:PAIRS] for _ in range(BATCH)])
            second = torch.randint(SYMBOLS, (BATCH, PAIRS))
            at = torch.randint(PAIRS, (BATCH, 1))
            return (first, second, first.gather(1, at)), second.gather(1, at)[:, 0]

        def loss_of(_: int) -> Any:
            inputs, wanted = drawn()
            return torch.nn.functional.cross_entropy(made(*inputs)[0], wanted)

        descend(made, loss_of, steps, 0.01, adam=True)
        with torch.no_grad():
            trials = [drawn() for _ in range(8)]

            def right() -> float:
                found = [(made(*inputs)[0].argmax(1) == wanted).float().mean() for inputs, wanted in trials]
                return float(torch.stack(found).mean())

            maps = []
            for inputs, _ in trials:
                _, q, k = made(*inputs)
                maps.append((q @ k.transpose(-1, -2) / sqrt(DIM // HEADS)).softmax(-1)[:, :, 0])
            weights = torch.cat(maps)
            entropy = -(weights * weights.clamp_min(1e-30).log()).sum(-1).mean(0) / log(PAIRS)
            whole = right()
            out, without = made.get_parameter("out.weight"), []
            kept = out.clone()
            for head in range(HEADS):
                out[:, head * DIM // HEADS : (head + 1) * DIM // HEADS] = 0
                without.append(right())
                out.copy_(kept)
        return {
            "right": whole, "entropy": [float(e) for e in entropy], "without": without,
            "likeness": [likeness(weights[:, a], weights[:, b]) for a, b in combinations(range(HEADS), 2)],
        }  # fmt: skip


def likeness(a: Any, b: Any) -> float:
    """Mean cosine of two heads' weights, less their average: 1 for the same, 0 for nothing in common."""
    import torch

    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return float(torch.nn.functional.cosine_similarity(a, b, dim=-1).mean())


def findings(
    found: dict[tuple[int, float, str], dict[str, float]], slope: dict[str, float],
    heads: list[dict[str, Any]], trained: bool = True,
) -> tuple[Finding, ...]:  # fmt: skip
    """The chapter's statements beside what came out."""
    large = max(n for n, _, _ in found)

    def right(noise: float, how: str, size: int = large) -> float:
        return found[size, noise, how]["right"]

    soft, sharp, table = "attention, 1/root d", "attention, 4/root d", "hash table"
    made = [
        Finding(
            expected="attention is a lookup by content that has gradients",
            found=f"of {large:,} rows, asked with noise of half a key's length, attention finds "
            f"{right(0.5, soft):.0%} with the scale 1/root d, {right(0.5, sharp):.0%} with four times "
            f"that, a hash "
            f"table {right(0.5, table):.0%}; asked exactly {right(0, soft):.0%}, {right(0, sharp):.0%} and "
            f"{right(0, table):.0%}. The own row's weight falls to "
            f"{found[large, 0.0, soft]['weight']:.2f} of 1, as "
            f"the others add up. Its gradient is {slope['norm']:.2g}, a hash table has none; a question "
            f"costs "
            f"{found[large, 0.0, sharp]['macs']:,} MACs against one probe",
            agreement=of_lookup(right(0, sharp), right(0.5, sharp), right(0.5, table), right(0.5, soft)),
            section="1.5",
        )
    ]  # fmt: skip
    if trained:
        alike = [x for one in heads for x in one["likeness"]]
        lost = [one["right"] - w for one in heads for w in one["without"]]
        made.append(
            Finding(
                expected="heads attend to different aspects of the input",
                found=f"recalled {over([100 * one['right'] for one in heads], '.0f')} percent; weights of "
                f"two heads "
                f"are alike by {over(alike, '.2f')}; without one head "
                f"{over([100 * x for x in lost], '.0f')} points "
                "are lost: on a task with one thing to look for they do the same",
                agreement=of_heads([one["right"] for one in heads], alike), section="1.6",
            )
        )  # fmt: skip
    return tuple(made)


def of_lookup(exact: float, noisy: float, table: float, soft: float) -> Agreement:
    """Finds what it is asked for, with noise too; in part where that takes a scale other than the usual."""
    if exact < 0.99 or noisy <= table:
        return "contradicts"
    return "agrees" if soft > 0.99 else "partly"


def of_heads(right: list[float], alike: list[float]) -> Agreement:
    """Heads differ, or are alike, once the network has learned; otherwise it cannot be told."""
    if median(right) < 0.8:
        return "cannot tell"
    return "agrees" if median(alike) < 0.3 else "contradicts" if median(alike) > 0.8 else "partly"
