"""Serving: users that fit, time to the first token and between tokens, ceilings, energy and price."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pharos.graph.count import Count, count
from pharos.graph.workload import Workload
from pharos.ops.experts import Experts
from pharos.plan.allreduce import all_reduce_s
from pharos.plan.allreduce import evidence as reduce_evidence
from pharos.plan.capacity import Capacity, capacity, curve, max_users, page_use, request_bytes
from pharos.plan.deployment import Deployment
from pharos.plan.kv import Paging
from pharos.plan.steps import Steps
from pharos.predict.estimate import Estimate, predict
from pharos.predict.kernel import compute_dtype
from pharos.quantity.dtypes import BITS
from pharos.quantity.errors import InputError, SizeError
from pharos.quantity.evidence import Figure, assumed, banded, sigma_of, unknown_figure
from pharos.quantity.units import fmt

# Sequences up to which a batch that turns compute-bound is looked for.
WIDEST = 2**16


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One step beside its ceilings.

    Args:
        latency: with host time and all-reduces.
        bandwidth_s, compute_s: what its bytes take at the specified bandwidth, its operations at the peak.
        flops, moved_bytes: of one device.
        energy: of all devices.
    """

    latency: Figure
    bandwidth_s: float | None
    compute_s: float | None
    flops: float
    moved_bytes: float
    energy: Figure

    @property
    def ceiling_s(self) -> float | None:
        """The higher of both ceilings: no step is faster."""
        known = [s for s in (self.bandwidth_s, self.compute_s) if s is not None]
        return max(known) if known else None

    @property
    def binding(self) -> str:
        """The ceiling that stands closer."""
        if self.bandwidth_s is None or self.compute_s is None:
            return "unknown"
        return "compute" if self.compute_s >= self.bandwidth_s else "memory-bandwidth"


@dataclass(frozen=True, slots=True)
class Turn:
    """Where decoding turns compute-bound: sequences at once, None where it never does; and its formula."""

    batch: int | None
    formula: str


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What a deployment serves.

    Args:
        users: sequences in flight that times are told for.
        context: tokens of a request at its end; prompt and output add up to it.
    """

    deployment: Deployment
    context: int
    prompt: int
    output: int
    users: int
    room: Capacity
    rent_usd_per_hour: float | None = None
    rent_source: str = ""

    @cached_property
    def max_users(self) -> int:
        """Requests of `context` tokens that fit at once."""
        return max_users(self.deployment, self.room, self.context)

    def but_reserving(self) -> int:
        """Requests that fit where each reserves room for the longest; 0 where that is how it is already."""
        made = self.deployment
        return max_users(made.but(block=0, shared_prefix=0), self.room, self.context) if made.block else 0

    @property
    def fits(self) -> bool:
        """Whether the users asked for fit."""
        return self.max_users >= self.users

    @cached_property
    def request_bytes(self) -> int:
        """Cache of a request on one device, as it is handed out."""
        return request_bytes(self.deployment, self.context)

    @cached_property
    def kv_bytes_per_request(self) -> int:
        """Keys, values and states of a request of `context` tokens, K and V both, no page rounded up."""
        return int(self.deployment.whole_kept.bytes_at(self.context))

    @cached_property
    def curve(self) -> list[tuple[int, int]]:
        """(context, users that fit)."""
        return curve(self.deployment, self.room, self.context)

    @cached_property
    def steps(self) -> Steps:
        """Tables of step times."""
        return Steps(self.deployment, max(self.context, self.prompt + self.output), self.sequences)

    def steps_to(self, longest: int) -> Steps:
        """Tables that reach to a context of `longest` tokens."""
        return (
            self.steps if longest <= self.steps.longest else Steps(self.deployment, longest, self.sequences)
        )

    @cached_property
    def page_use(self) -> Paging:
        """Waste of pages over requests as long as this one's on average."""
        return page_use(self.deployment, self.context)

    @property
    def sequences(self) -> int:
        """Sequences in flight that tables reach to."""
        return max(self.deployment.sequences, self.users)

    @cached_property
    def prefill(self) -> Point:
        """The prompt of one user, the device to itself."""
        return _point(self.deployment, "prefill", 1, self.prompt)

    @cached_property
    def ttft(self) -> Figure:
        """Seconds to the first token of a request that finds the device idle."""
        return self._from_steps(self.prefill.latency, "prompt_s")

    def _from_steps(self, figure: Figure, name: str) -> Figure:
        """The figure moved to what its steps take: a prompt in parts, without what is shared; host time."""
        if figure.value is None or self.deployment.is_traced:
            return figure
        seconds = getattr(self.steps, name)(self.prompt) + self.deployment.stack.request_s
        return banded(seconds, "s", _error(figure), figure.evidence)

    @cached_property
    def decode(self) -> Point:
        """A token for each of the users, half of whose answers are there on average."""
        return self.decode_at(self.users)

    @property
    def mean_context(self) -> int:
        """Tokens behind a user on average: the prompt and half of the answer."""
        return max(self.prompt + (self.output + 1) // 2, 2)

    def decode_at(self, users: int) -> Point:
        """The step of so many users at the mean context."""
        if users == self.users and "decode" in self.__dict__:
            return self.decode
        return _point(self.deployment, "decode", users, self.mean_context)

    @property
    def tpot(self) -> Figure:
        """Seconds between a user's tokens while nobody's prompt goes in."""
        return self.decode.latency

    def cycle_s(self, users: int) -> float | None:
        """Seconds in which `users` get an answer each, prompts among the steps as they come."""
        if self.deployment.is_traced:
            prompt, token = self.prefill.latency.value, self.decode_at(users).latency.value
            if prompt is None or token is None:
                return None
            return max(self.output - 1, 1) * token + users * prompt
        try:
            steps = self.steps
        except InputError:
            return None
        users = min(users, self.sequences)
        answer = max(self.output - 1, 1) * steps.decoding(users, self.mean_context)
        # the part of a prompt's step that decoding beside it does not pay anyway
        alone = steps.prompt_s(self.prompt) - steps.host_s
        return answer + users * alone

    def tokens_per_s_at(self, users: int) -> float | None:
        """Tokens a second of all devices with so many users, who ask again as soon as they are answered."""
        seconds = self.cycle_s(users)
        return None if seconds is None else users * self.output / seconds

    @cached_property
    def tokens_per_s(self) -> Figure:
        """Output tokens a second, prompts taken in between."""
        return self._rate(self.users)

    def _rate(self, users: int) -> Figure:
        value = self.tokens_per_s_at(users)
        latency = self.decode.latency
        if value is None or latency.value is None:
            return unknown_figure("1/s", latency.evidence[0].where if latency.evidence else "step times")
        return banded(value, "1/s", _error(latency), latency.evidence)

    @cached_property
    def energy_per_million(self) -> Figure:
        """Joules of a million output tokens, all devices, with their share of the prompts."""
        decode, prefill = self.decode.energy, self.prefill.energy
        if decode.value is None or prefill.value is None:
            return decode if decode.value is None else prefill
        each = decode.value / self.users + prefill.value / self.output
        return banded(
            1e6 * each, "J", max(_error(decode), _error(prefill)), (*decode.evidence, *prefill.evidence)
        )

    @cached_property
    def usd_per_million(self) -> Figure:
        """Price of a million output tokens at the rent of the devices."""
        rent, rate = self.rent, self.tokens_per_s
        if rent.value is None:
            return Figure(value=None, unit="USD", evidence=rent.evidence)
        if rate.value is None:
            return Figure(value=None, unit="USD", evidence=rate.evidence)
        usd = rent.value * self.deployment.devices / 3600 / rate.value * 1e6
        return banded(usd, "USD", _error(rate), (*rent.evidence, *rate.evidence))

    @cached_property
    def rent(self) -> Figure:
        """Dollars an hour of one device: as given, or as the catalogue has it."""
        if self.rent_usd_per_hour is not None:
            return Figure(value=self.rent_usd_per_hour, unit="USD", evidence=(assumed("rent as given"),))
        known = self.deployment.machine.rent_usd_per_hour
        return Figure(value=known.value, unit="USD", evidence=(known.evidence,))

    @cached_property
    def turn(self) -> Turn:
        """The batch at which decoding turns compute-bound."""
        return turn(self.deployment, self.mean_context)


def serving(
    deployment: Deployment,
    *,
    context: int | None = None,
    users: int = 1,
    prompt: int | None = None,
    output: int | None = None,
    rent_usd_per_hour: float | None = None,
) -> Serving:
    """What a deployment serves at a context.

    Args:
        context: prompt + output where those are given, else 2048 or all the model allows if fewer.
        prompt, output: tokens in and out; three quarters and one quarter of the context by default, the
            output at most 512.

    Raises:
        InputError: no decoder, a context beyond the model's, or an impossible mix of the above.
    """
    for name, value in (("users", users), ("context", context), ("prompt", prompt), ("output", output)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1, not {value}")
    most = deployment.kept and deployment.max_context
    if context is None:
        context = prompt + output if prompt and output else 2048
        if prompt and not output:
            context = prompt + 256
        elif output and not prompt:
            context = output + 1024
        if most is not None and not (prompt and output):
            context = min(context, most)
    if output is None:
        output = context - prompt if prompt else max(min(context // 4, 512), 1)
    if prompt is None:
        prompt = context - output
    if prompt < 1 or output < 1 or prompt + output > context:
        raise InputError(
            f"{prompt} tokens in and {output} out do not go into a context of {context}",
            hint=f"ask for --context {max(prompt, 1) + max(output, 1)}",
        )
    if most is not None and context > most:
        raise InputError(
            f"context {context} is beyond the {most} tokens that the model was made for",
            where=deployment.model.name,
            hint=f"at most {most}",
        )
    return Serving(
        deployment=deployment,
        context=context,
        prompt=prompt,
        output=output,
        users=users,
        room=capacity(deployment, context=context),
        rent_usd_per_hour=rent_usd_per_hour,
    )


def _point(deployment: Deployment, phase: str, batch: int, context: int) -> Point:
    """One step by `predict`, with all-reduces and host time."""
    work = Workload(phase=phase, batch=batch, context=max(context, 2), precision=deployment.precision)
    made = predict(deployment.graph(work), deployment.runner, work, runtime="compiled")
    flops, moved = _asked(made.count)
    parts, machine = deployment.parts, deployment.machine
    peak, rate = machine.peak(compute_dtype(deployment.precision)).value, machine.bandwidth_bytes_per_s.value
    tokens = batch if phase == "decode" else batch * context
    reduced = all_reduce_s(
        tokens * deployment.width * BITS[deployment.precision.activations] / 8, deployment.devices, machine
    )
    stack = deployment.stack
    latency = made.latency
    if latency.value is not None and reduced is None:
        latency = unknown_figure("s", f"link of {machine.id} is not in the catalogue")
    elif latency.value is not None and reduced is not None:
        more = reduced * deployment.reductions + stack.step_s + stack.sequence_s * batch
        whole = float(latency.value) + more
        evidence = [*latency.evidence]
        if deployment.devices > 1:
            evidence.append(reduce_evidence())
        if stack.step_s:
            evidence.append(stack.evidence)
        latency = banded(whole, "s", _error(latency), evidence)
    energy = _energy(made, deployment, latency)
    return Point(
        latency=latency,
        bandwidth_s=moved / parts / rate if rate else None,
        compute_s=flops / parts / peak if peak else None,
        flops=flops / parts,
        moved_bytes=moved / parts,
        energy=energy,
    )


def _energy(made: Estimate, deployment: Deployment, latency: Figure) -> Figure:
    """Joules of all devices: what the runner takes, times the devices it does not stand for, and waiting."""
    parts = made.energy_parts
    if made.energy.value is None or parts is None or latency.value is None:
        return made.energy
    copies = deployment.devices // deployment.parts
    waiting = max(latency.value - float(made.latency.value or 0.0), 0.0)
    power = float(parts.static_J) / float(made.latency.value or 1.0)
    value = copies * (float(made.energy.value) + waiting * power)
    return banded(value, "J", parts.error, made.energy.evidence)


def _asked(counted: Count) -> tuple[float, float]:
    """Operations that matrices need, masked ones skipped, and bytes that must move."""
    return float(2 * (counted.macs - counted.work.masked_macs)), float(counted.traffic_ideal)


def _error(figure: Figure) -> float:
    if figure.low and figure.high and figure.high > figure.low:
        return sigma_of(float(figure.low), float(figure.high))
    return 0.0


def turn(deployment: Deployment, context: int) -> Turn:
    """The batch at which the operations of a decode step take as long as its bytes, at peak and specified
    bandwidth.

    With W bytes of weights, F operations and K bytes of cache a sequence, b F / peak = (W + b K) / bandwidth,
    so b = W / (F bandwidth / peak - K): none where K is too large. With experts W grows with b, and the first
    such b is looked for among powers of two and between.
    """
    import numpy as np

    machine = deployment.machine
    dtype = compute_dtype(deployment.precision)
    peak, rate = machine.peak(dtype).value, machine.bandwidth_bytes_per_s.value
    if not peak or not rate:
        return Turn(None, f"unknown: {dtype} peak or bandwidth of {machine.id} is not in the catalogue")
    balance = rate / peak

    def at(batches: Any) -> tuple[Any, Any]:
        work = Workload(phase="decode", batch=batches, context=context, precision=deployment.precision)
        found = count(deployment.graph(work))
        return 2 * (found.macs - found.work.masked_macs), found.traffic_ideal

    def told(batch: int | None) -> Turn:
        one = count(
            deployment.graph(
                Workload(phase="decode", batch=1, context=context, precision=deployment.precision)
            )
        )
        each = 2 * (one.macs - one.work.masked_macs)
        # what one sequence moves of its own: cache or state, token and logits
        kept = one.traffic_ideal - one.traffic.weights
        said = (
            f"b x {fmt(each, 'FLOP')} / {fmt(peak, 'FLOP/s')} = ({fmt(one.traffic.weights, 'B')} "
            f"of weights + b x {fmt(kept, 'B')}) / {fmt(rate, 'B/s')}"
        )
        if any(isinstance(n.op, Experts) for n, _, _ in deployment.first.walk()):
            said += ", and more experts are read as b grows"
        if batch is None and kept > each * balance:
            said += f": in the time of its operations a sequence could move {fmt(each * balance, 'B')}"
        return Turn(batch, said)

    if deployment.is_traced:
        (f, m), (f2, m2) = at(1), at(2)
        slope = (f2 - f) * balance - (m2 - m)
        return told(None if slope <= 0 else max(1, int(-(-(m - (m2 - m)) // slope))))
    try:
        batches = np.unique(np.geomspace(1, WIDEST, 400).round())
        flops, moved = at(batches)
    except SizeError:
        return Turn(None, "unknown: the model gives no formula")
    found = np.flatnonzero(flops * balance >= moved)
    if not len(found):
        return told(None)
    first = int(found[0])
    if first == 0:
        return told(1)
    between = np.arange(batches[first - 1], batches[first] + 1)
    flops, moved = at(between)
    return told(int(between[int(np.flatnonzero(flops * balance >= moved)[0])]))
