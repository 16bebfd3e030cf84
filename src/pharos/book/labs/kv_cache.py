"""The KV cache: a small decoder generates with it and without, and what a token takes with its place."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from pharos.book.lab import Progress, Setting, lab
from pharos.book.timed import Span, above, below, drawn, every, power, ratio, threads, timed
from pharos.graph.count import Count, count
from pharos.graph.workload import Workload
from pharos.measure.timing import Timing
from pharos.models.transformer import Decoder, decoder
from pharos.report.labs import Agreement, Check, Finding, Outcome

NAME = "kv-cache"
SIZES = Decoder(layers=4, hidden_size=512, heads=8, kv_heads=8, head_dim=64, ffn_size=1536, vocabulary=4096,
                max_context=2048)  # fmt: skip
LITTLE = replace(SIZES, layers=2, hidden_size=64, heads=4, kv_heads=2, head_dim=16, ffn_size=96,
                 vocabulary=256)  # fmt: skip
PLACES, FEW = (64, 128, 256, 512, 1024), (16, 32)
WINDOW = 256
# Tokens of the prompt and tokens generated, where results are compared.
PROMPT, GENERATED = 12, 12
TOLERANCE = 1e-9
CACHED, AGAIN = "with cache", "computed again"


@lab(NAME, "a decoder generates with a KV cache and without: equal results, time by position, bytes",
     claims=("kv-linear-nd", "fn20-kv-linear", "lh-gpt2-1-op-byte", "pit6-kv-formula",
             "fn2-kv-dominant"))  # fmt: skip
def kv_cache(setting: Setting, progress: Progress) -> Outcome:
    """One sequence on one core; the cache is PyTorch's tensors, extended at every step."""
    places = FEW if setting.small else PLACES
    sizes = LITTLE if setting.small else SIZES
    steps = len(places) + 2
    with threads() as torch:
        torch.manual_seed(setting.seed)
        progress(0, steps, "equal results")
        apart, same = generated(torch, LITTLE)
        forgot, _ = generated(torch, replace(LITTLE, window=8))
        rows, times, exact = [], [], True
        for i, n in enumerate(places):
            progress(i + 1, steps, f"{n:,} tokens")
            calls, held = calls_at(torch, sizes, n, setting.seed)
            found = timed(calls, 4.0, small=setting.small)
            times.append(found)
            asked = counted_at(sizes, n)
            exact &= held == asked.state_bytes
            again = count(graph_at(sizes, n, "prefill"))
            for how, counts, kept in ((CACHED, asked, held), (AGAIN, again, 0)):
                per_byte = float(counts.flops / counts.traffic_per_op)
                took = 1e3 * found[how].median
                rows.append((how, n, kept / 1e6, float(counts.macs) / 1e6, per_byte, took))
        progress(steps - 1, steps, "a window")
        window = windowed(torch, replace(sizes, window=min(WINDOW, places[-1] // 2)), places, setting.seed)
    progress(steps, steps, "done")
    return Outcome(
        name=NAME, summary="what a generated token takes with a KV cache, and with everything computed again",
        settings={"layers": sizes.layers, "width": sizes.hidden_size, "dtype": "fp32", "threads": 1,
                  "seed": setting.seed},
        columns=("token", "position", "cache_MB", "MMACs", "flop_per_byte", "ms"), rows=tuple(rows),
        checks=(
            Check(what="steps with the cache give what the whole sequence gives",
                  found=f"logits {apart:.0e} apart in fp64, {forgot:.0e} with a window of 8, {TOLERANCE:.0e} "
                  f"allowed; the tokens are {'the same' if same else 'others'}",
                  holds=max(apart, forgot) <= TOLERANCE and same),
            Check(what="bytes of the cache are the counted", found="exactly" if exact else "not so",
                  holds=exact),
        ),
        findings=findings(places, rows, times, window, sizes),
        note="MMACs, flop_per_byte: counted, of the step; computed again: the whole prefix at once, of which "
        "the last position is scored; times are of this machine",
        figure=picture(rows),
        data={"window_bytes": window},
    )  # fmt: skip


def graph_at(sizes: Decoder, n: int, phase: str) -> Any:
    """The graph of the step that makes the n-th token."""
    return decoder("small", Workload(phase=phase, context=n), sizes)


def counted_at(sizes: Decoder, n: int) -> Count:
    """What a step with the cache asks for."""
    return count(graph_at(sizes, n, "decode"))


def calls_at(torch: Any, sizes: Decoder, n: int, seed: int) -> tuple[dict[str, Any], int]:
    """(calls that make the logits after n tokens, with a cache of all but the last and without, bytes of the
    cache afterwards)."""
    from pharos.convert.to_torch import to_torch

    tokens = torch.randint(0, sizes.vocabulary, (1, n), generator=torch.Generator().manual_seed(seed))
    whole = to_torch(graph_at(sizes, n, "prefill")).eval()
    before = to_torch(graph_at(sizes, n - 1, "prefill")).eval()
    step = to_torch(graph_at(sizes, n, "decode")).eval()
    for other in (before, step):
        other.load_state_dict(whole.state_dict(), assign=True)
    state: dict[str, Any] = {}
    before(tokens[:, :-1], state=state)

    def cached() -> Any:
        now = dict(state)
        step(tokens[:, -1:], state=now)
        return now

    held = sum(t.nbytes for t in cached().values())
    return {CACHED: cached, AGAIN: partial(whole, tokens)}, held


def generated(torch: Any, sizes: Decoder) -> tuple[float, bool]:
    """(largest difference of logits in fp64, step by step against the whole sequence; same tokens chosen)."""
    from pharos.convert.to_torch import to_torch

    weights: dict[str, Any] = {}

    def module(n: int, phase: str) -> Any:
        made = to_torch(graph_at(sizes, n, phase)).double().eval()
        if not weights:
            # larger than a new layer's, so that tokens do not look alike
            weights.update({k: 0.2 * torch.randn_like(v) for k, v in made.state_dict().items()})
        made.load_state_dict(weights)
        return made

    tokens = torch.randint(0, sizes.vocabulary, (1, PROMPT))
    state: dict[str, Any] = {}
    stepwise = [module(PROMPT, "prefill")(tokens, state=state)[:, -1]]
    for _ in range(GENERATED - 1):
        tokens = torch.cat([tokens, stepwise[-1].argmax(-1, keepdim=True)], 1)
        stepwise.append(module(tokens.shape[1], "decode")(tokens[:, -1:], state=state)[:, -1])
    wanted = module(tokens.shape[1], "forward")(tokens)[:, PROMPT - 1 :]
    found = torch.stack(stepwise, 1)
    same = bool((found.argmax(-1) == wanted.argmax(-1)).all())
    return float((found - wanted).abs().max() / wanted.abs().max()), same


def windowed(torch: Any, sizes: Decoder, places: Sequence[int], seed: int) -> list[int]:
    """Bytes that the cache of a decoder with a window holds, by position."""
    return [calls_at(torch, sizes, n, seed)[1] for n in places]


def linear(places: Sequence[int], held: Sequence[float]) -> Agreement:
    """Of a cache that grows in proportion to the tokens."""
    return "agrees" if abs(power(places, held) - 1) < 0.02 else "contradicts"


def flat(first: Timing, last: Timing, stretch: float) -> tuple[Span, Agreement]:
    """(how much longer a step takes at the last position than at the first, whether that is less than the
    square root of how much farther it is)."""
    pairs = Span(last.median / first.median, last.share(0.25) / first.share(0.75),
                 last.share(0.75) / first.share(0.25))  # fmt: skip
    return pairs, below(pairs, stretch**0.5)


def findings(
    places: Sequence[int], rows: Sequence[tuple[Any, ...]], times: Sequence[dict[str, Timing]],
    window: Sequence[int], sizes: Decoder,
) -> tuple[Finding, ...]:  # fmt: skip
    """What the chapter expects beside what came out."""
    held = [r[2] for r in rows if r[0] == CACHED]
    per_byte = [r[4] for r in rows if r[0] == CACHED]
    stretch = places[-1] / places[0]
    gain = ratio(times[-1][AGAIN], times[-1][CACHED])
    slower, calm = flat(times[0][CACHED], times[-1][CACHED], stretch)
    again, _ = flat(times[0][AGAIN], times[-1][AGAIN], stretch)
    weights = count(graph_at(sizes, places[-1], "decode")).weight_bytes
    over = weights / (1e6 * held[-1] / places[-1])
    return (
        Finding(
            expected="keeping keys and values avoids computing the whole prefix again for every token",
            found=f"at {places[-1]:,} tokens a step takes {gain} times as long without them",
            agreement=above(gain, 1.0), section="1.6",
        ),
        Finding(
            expected="with the cache a token costs about as much wherever it stands, without it ever more",
            found=f"{stretch:g} times as many tokens: {slower} times as long with it, {again} times without",
            agreement=every([calm, above(again, stretch**0.5)]), section="1.6",
        ),
        Finding(
            expected="the cache grows in proportion to the tokens",
            found=f"{held[0]:.3g} MB at {places[0]:,} tokens, {held[-1]:.3g} MB at {places[-1]:,}; "
            f"within a window it stays at {window[-1] / 1e6:.3g} MB",
            agreement=linear(places, held), section="1.6",
            claims=("kv-linear-nd", "fn20-kv-linear", "pit6-kv-formula"),
        ),
        Finding(
            expected="the cache becomes the largest part of memory while generating",
            found=f"it is {1e6 * held[-1] / weights:.2g} of the weights' bytes at {places[-1]:,} tokens; as "
            f"large as they from {over:,.0f} tokens, in one sequence or in several",
            agreement="agrees" if 1e6 * held[-1] > weights else "partly", section="1.1",
            claims=("fn2-kv-dominant",),
        ),
        Finding(
            expected="decoding does about one operation for each byte it reads",
            found=f"{min(per_byte):.2g} to {max(per_byte):.2g} FLOP/B in fp32 (counted), half a FLOP for "
            "each byte of a weight; in fp16 it would be twice that",
            agreement=one_each(per_byte), section="1.6", claims=("lh-gpt2-1-op-byte",),
        ),
    )  # fmt: skip


def one_each(per_byte: Sequence[float]) -> Agreement:
    """Of "about one FLOP a byte": to a factor of two."""
    near = [0.5 <= x <= 2 for x in per_byte]
    return "agrees" if all(near) else "partly" if any(near) or min(per_byte) > 0.4 else "contradicts"


def picture(rows: Sequence[tuple[Any, ...]]) -> Any:
    """Time of a token over its position."""
    data = [{"token": r[0], "position": r[1], "milliseconds": r[5]} for r in rows]

    def draw(alt: Any) -> Any:
        return alt.Chart(alt.Data(values=data)).mark_line(point=True).encode(
            x=alt.X("position:Q", scale=alt.Scale(type="log", base=2), title="position of the token"),
            y=alt.Y("milliseconds:Q", scale=alt.Scale(type="log"), title="milliseconds"),
            color=alt.Color("token:N", title=None, legend=alt.Legend(orient="top")),
            tooltip=["token:N", "position:Q", alt.Tooltip("milliseconds:Q", format=".3g")],
        )  # fmt: skip

    return drawn(draw, name=NAME, title="A token with and without the KV cache",
                 alt="Time of a generated token over its position: nearly flat with a cache, rising without.",
                 source="measured on this machine, one core, one sequence")  # fmt: skip
