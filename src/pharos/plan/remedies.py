"""Remedies: what each change to a deployment would buy, by serving it again with the change."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from pharos.facts.tables import table
from pharos.models.transformer import Decoder
from pharos.plan.deployment import Deployment
from pharos.plan.serving import Serving, serving
from pharos.plan.variants import grouped, with_sizes
from pharos.quantity.dtypes import BITS
from pharos.quantity.errors import PharosError
from pharos.quantity.units import fmt

# Year from which servers connect a device by PCIe 5, at the rate measured there; before, PCIe 4 at the same
# share of its specification (assumed).
PCIE5_FROM = 2022
PAGES_NEED = "lengths that differ as those of chats do (assumed)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """A change and what becomes of the figures.

    Args:
        in_use: it is in place already: the gain is what it buys over being without.
        needs: what must be done or may be lost for it.
        gain: the largest factor by which a figure becomes better, of the one named in `gain_in`:
            "users", "tokens/s" (of a device, with as many users as fit), "ttft", "tpot" or "longest gap".
            None where nothing is served without it.
        max_users, ttft_s, tpot_s, tokens_per_s: with the change; tokens a second of one device at capacity.
    """

    name: str
    needs: str
    gain: float | None
    gain_in: str
    max_users: int
    ttft_s: float | None
    tpot_s: float | None
    tokens_per_s: float | None
    in_use: bool = False


@dataclass(frozen=True, slots=True)
class _Figures:
    max_users: int
    ttft_s: float | None
    tpot_s: float | None
    tokens_per_s: float | None


def remedies(base: Serving) -> list[Remedy]:
    """Every remedy that can be computed, the largest gain first; those without a gain are left out.

    Of a model that is run to be seen, each graph takes seconds: only what needs no other graph is told.
    """
    if base.deployment.is_traced:
        bare = _Figures(base.max_users, base.ttft.value, base.tpot.value, None)
        paged = base.but_reserving()
        told = [_compared("paged cache", PAGES_NEED, replace(bare, max_users=paged), bare)] if paged else []
        found = [*(replace(r, in_use=True) for r in told), *_offloaded(base, bare)]
        return _sorted(found)
    now = _figures(base)
    found = []
    for name, needs, made in _changes(base):
        try:
            found.append(_compared(name, needs, now, _figures(made())))
        except PharosError:
            # a size that the model or the devices cannot have is no remedy
            continue
    for name, needs, without in _in_use(base):
        try:
            found.append(replace(_compared(name, needs, _figures(without()), now), in_use=True))
        except PharosError:
            continue
    found += [*_chunked(base, now), *_offloaded(base, now)]
    return _sorted(found)


def _sorted(found: list[Remedy]) -> list[Remedy]:
    better = [r for r in found if r.gain is None or r.gain > 1.005]
    return sorted(better, key=lambda r: -(float("inf") if r.gain is None else r.gain))


def _figures(one: Serving) -> _Figures:
    at = min(one.max_users, one.deployment.sequences)
    rate = one.tokens_per_s_at(at) if at else None
    return _Figures(
        one.max_users, one.ttft.value, one.tpot.value, None if rate is None else rate / one.deployment.devices
    )


def _compared(name: str, needs: str, before: _Figures, after: _Figures) -> Remedy:
    ratios: dict[str, float] = {}
    if before.max_users:
        ratios["users"] = after.max_users / before.max_users
    for key, old, new in (
        ("tokens/s", after.tokens_per_s, before.tokens_per_s),
        ("ttft", before.ttft_s, after.ttft_s),
        ("tpot", before.tpot_s, after.tpot_s),
    ):
        if old and new:
            ratios[key] = old / new
    key = max(ratios, key=lambda k: ratios[k], default="users")
    gain: float | None = ratios.get(key)
    if not before.max_users:
        key, gain = "users", None if after.max_users else 0.0
    return Remedy(
        name=name,
        needs=needs,
        gain=gain,
        gain_in=key,
        max_users=after.max_users,
        ttft_s=after.ttft_s,
        tpot_s=after.tpot_s,
        tokens_per_s=after.tokens_per_s,
    )


def _again(base: Serving, deployment: Deployment, **changes: int) -> Serving:
    asked = {
        "context": base.context,
        "prompt": base.prompt,
        "output": base.output,
        "users": base.users,
        **changes,
    }
    return serving(deployment, rent_usd_per_hour=base.rent_usd_per_hour, **asked)


_Change = tuple[str, str, Callable[[], Serving]]


def _changes(base: Serving) -> Iterator[_Change]:
    now = base.deployment
    sizes, types = now.model.sizes, now.precision
    if isinstance(sizes, Decoder) and not sizes.latent:
        trained = "training anew, or some 5% of it (Ainslie et al. 2023)"
        for heads, name in ((8, "grouped-query attention, 8 KV heads"), (1, "multi-query attention")):
            model = grouped(now.model, heads)
            if model is not None:
                yield name, trained, lambda m=model: _again(base, now.but(model=m))
    if base.context >= 512:
        half = base.context // 2
        output = min(base.output, half // 2)
        yield (
            f"context of {half}",
            "shorter prompts or answers",
            lambda: _again(base, now, context=half, prompt=half - output, output=output),
        )
    window = 1 << max((base.context // 4).bit_length() - 1, 7)
    if isinstance(sizes, Decoder) and not sizes.latent and window < base.context:
        narrow = with_sizes(
            now.model, lambda layer: {} if layer["window"] or layer["chunk"] else {"window": window}
        )
        if narrow is not None:
            yield (
                f"sliding window of {window}",
                "answers change: what is further back is not seen",
                lambda: _again(base, now.but(model=narrow)),
            )
    for kind, how in (
        ("fp8", "checking accuracy"),
        ("int8", "checking accuracy"),
        ("int4", "calibration data, checking accuracy"),
    ):
        if BITS[kind] < BITS[types.weights]:
            yield (
                f"weights in {kind}",
                how,
                lambda k=kind: _again(base, now.but(precision=replace(types, weights=k))),
            )
    if now.machine.peak("fp8").value and BITS[types.activations] > 8:
        yield (
            "weights and activations in fp8",
            "calibration data, checking accuracy",
            lambda: _again(base, now.but(precision=replace(types, weights="fp8", activations="fp8"))),
        )
    for kind in ("fp8", "int8", "int4"):
        # one name a width
        if BITS[kind] < BITS[types.kv_cache] and kind != "int8":
            yield (
                f"KV cache in {kind}",
                "checking accuracy, most at long contexts",
                lambda k=kind: _again(base, now.but(precision=replace(types, kv_cache=k))),
            )
    for more in (2, 4):
        yield (
            f"{now.devices * more} devices, tensor parallel",
            "devices on one fast link",
            lambda m=more: _again(base, now.but(devices=now.devices * m)),
        )
    if not now.block:
        yield "paged cache, blocks of 16", "a server that pages", lambda: _again(base, now.but(block=16))
    if not now.shared_prefix and now.block and base.prompt >= 2 * now.block:
        part = base.prompt // 2
        yield (
            f"shared prefix of {part} tokens",
            "half of every prompt the same",
            lambda: _again(base, now.but(shared_prefix=part)),
        )
    if not now.tiled:
        yield "FlashAttention", "a kernel for the device", lambda: _again(base, now.but(tiled=True))


def _in_use(base: Serving) -> Iterator[_Change]:
    now = base.deployment
    if now.block:
        yield (
            "paged cache",
            PAGES_NEED,
            lambda: _again(base, now.but(block=0, shared_prefix=0)),
        )
    if now.tiled and any(n.op.kind == "attention" for n, _, _ in now.first.walk()):
        yield "FlashAttention for prompts", "", lambda: _again(base, now.but(tiled=False))
    if now.shared_prefix:
        yield (
            f"shared prefix of {now.shared_prefix} tokens",
            "",
            lambda: _again(base, now.but(shared_prefix=0)),
        )


def _chunked(base: Serving, now: _Figures) -> Iterator[Remedy]:
    """The longest gap between tokens: a step with a part of a prompt beside one that waits for all of it."""
    try:
        steps = base.steps
    except PharosError:
        return
    beside = min(base.users, steps.sequences)
    longest = base.prompt
    chunk = min(512, longest)
    whole = steps.mixed([(longest, 0)], 1, 0, 0.0) + steps.decoding(beside, base.mean_context)
    parts = steps.mixed([(chunk, longest - chunk)], 1, beside, base.mean_context)
    if longest > chunk and whole > parts:
        yield Remedy(
            name=f"prompts in parts of {chunk}",
            needs=f"a longest gap of {fmt(parts, 's')} instead of "
            f"{fmt(whole, 's')}; the prompt itself takes longer",
            gain=whole / parts,
            gain_in="longest gap",
            max_users=now.max_users,
            ttft_s=now.ttft_s,
            tpot_s=now.tpot_s,
            tokens_per_s=now.tokens_per_s,
        )


def host_bytes_per_s(deployment: Deployment) -> float:
    """Bytes a second between a device and its host, one way; assumed from the year of the device."""
    rows = table("links")["pcie"]
    measured = next(r for r in rows["measured"] if r["gen"] == 5)
    if (deployment.machine.year or PCIE5_FROM) >= PCIE5_FROM:
        return float(measured["bandwidth_bytes_per_s"])
    spec = next(r for r in rows["generations"] if r["gen"] == 4)
    return float(spec["bandwidth_bytes_per_s"]) * float(measured["efficiency"])


def _offloaded(base: Serving, now: _Figures) -> Iterator[Remedy]:
    """Weights that stream from the host every step; caches of users who are silent that come back."""
    if base.deployment.machine.kind != "gpu":
        return
    rate = host_bytes_per_s(base.deployment)
    room = base.room
    pool = room.pool + room.weights * 0.9
    users = max(int(pool // base.request_bytes), 0) if base.request_bytes else 0
    if users > now.max_users and now.tpot_s:
        # a tenth of the layers is on the device while the next comes
        step = max(now.tpot_s, 0.9 * room.weights / rate)
        yield Remedy(
            name="weights in the host's memory",
            needs=f"{fmt(0.9 * room.weights, 'B')} of it a device; a step takes {fmt(step, 's')}",
            gain=users / now.max_users if now.max_users else None,
            gain_in="users",
            max_users=users,
            ttft_s=now.ttft_s,
            tpot_s=step,
            tokens_per_s=None,
        )
    if now.ttft_s and now.max_users and base.request_bytes:
        back = base.request_bytes / rate
        yield Remedy(
            name="caches of silent users to the host",
            needs=f"{fmt(base.request_bytes, 'B')} of it a user; back "
            f"in {fmt(back, 's')} instead of a new prefill",
            gain=now.ttft_s / back,
            gain_in="ttft",
            max_users=now.max_users,
            ttft_s=back,
            tpot_s=now.tpot_s,
            tokens_per_s=now.tokens_per_s,
        )
