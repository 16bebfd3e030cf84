"""Timeline: a host that dispatches ahead of a device, in closed form over repeated layers.

Launch i costs the host h_i and the device k_i seconds, and reaches the device t_lat after the host's part:

    c_i = c_{i-1} + h_i;  g_i = max(g_{i-1}, c_i + t_lat) + k_i

c is when the host is free, g when the device is. A stretch of launches maps (c, g) to
(c + H, max(g + A, c + B)): H sums the host's parts, A the device's, and B is the latest that the device can
end for a host that starts at 0. Such maps compose, and n rounds of one are again such a map, with
B + (n - 1) max(H, A): what round j adds is linear in j, so that the latest end belongs to the first round or
to the last. Sizes may be arrays or symbols.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pharos.graph.count import Line
from pharos.passes.fuse import Rounds, Step
from pharos.quantity.sizes import Size, maximum


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of launches.

    Args:
        host, device: seconds that either is busy; H and A.
        late: seconds from the host's start to the device's end when the device waits for it; B, None where
            nothing is launched.
    """

    host: Size = 0.0
    device: Size = 0.0
    late: Size | None = None

    def then(self, after: "Span") -> "Span":
        """This stretch and another one."""
        if after.late is None:
            late = None if self.late is None else self.late + after.device
        elif self.late is None:
            late = self.host + after.late
        else:
            late = maximum(self.late + after.device, self.host + after.late)
        return Span(self.host + after.host, self.device + after.device, late)

    def times(self, rounds: Size) -> "Span":
        """This stretch so many times in a row, at least once."""
        late = None if self.late is None else self.late + (rounds - 1) * maximum(self.host, self.device)
        return Span(rounds * self.host, rounds * self.device, late)

    @property
    def end(self) -> Size:
        """Seconds until both are done, from a start at which both are free."""
        ends = [self.host, self.device] if self.late is None else [self.host, self.device, self.late]
        return maximum(*ends)


def launch(host: Size, device: Size, latency: Size) -> Span:
    """One launch."""
    return Span(host, device, host + latency + device)


def span_of(steps: Sequence[Step], launched: Callable[[int], Span], viewed: Callable[[Line], Span]) -> Span:
    """The stretch of a graph's steps, rounds in closed form.

    Args:
        launched: the stretch of a kernel, by its number; viewed: of a view.
    """
    whole = Span()
    for step in steps:
        if isinstance(step, Rounds):
            part = span_of(step.steps, launched, viewed).times(step.count)
        else:
            part = launched(step) if isinstance(step, int) else viewed(step)
        whole = whole.then(part)
    return whole
