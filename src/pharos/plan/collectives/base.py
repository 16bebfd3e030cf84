"""Collectives: what moves between devices, as closed forms of sizes and as messages step by step."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pharos.quantity.errors import InputError, unknown
from pharos.quantity.sizes import Size, is_array, is_int, is_symbol, minimum

# Where a phase's bytes go: the links between devices of a node, or those between nodes.
INSIDE, ACROSS = "inside", "across"


@dataclass(frozen=True, slots=True)
class Phase:
    """Steps of one level of links that follow each other.

    Args:
        level: INSIDE or ACROSS.
        steps: messages that must wait for each other; each costs one latency.
        serial: bytes on the busiest port, one direction, summed over the steps: what time is made of.
        sent, received: bytes out of and into the busiest device.
        total: bytes that all devices put on their links.
    """

    level: str
    steps: Size
    serial: Size
    sent: Size
    received: Size
    total: Size


@dataclass(frozen=True, slots=True)
class Moves:
    """What a collective moves by one algorithm: its phases, one after the other."""

    phases: tuple[Phase, ...]

    def _sum(self, field: str, level: str | None) -> Size:
        return sum([getattr(p, field) for p in self.phases if level in (None, p.level)])

    def steps(self, level: str | None = None) -> Size:
        """Latencies in a row, of one level of links or of both."""
        return self._sum("steps", level)

    def serial(self, level: str | None = None) -> Size:
        """Bytes that must follow each other through one port."""
        return self._sum("serial", level)

    def sent(self, level: str | None = None) -> Size:
        """Bytes that leave the busiest device."""
        return self._sum("sent", level)

    def received(self, level: str | None = None) -> Size:
        """Bytes that arrive at the busiest device."""
        return self._sum("received", level)

    def total(self, level: str | None = None) -> Size:
        """Bytes that all devices together put on links."""
        return self._sum("total", level)


@dataclass(frozen=True, slots=True)
class Message:
    """Blocks on their way: from one device to one, or, where a switch copies or adds, from and to several.

    Args:
        blocks: what is sent; each source puts each block on its link once, each target takes it once.
        adds: the targets add it to what they have.
    """

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    blocks: tuple[Any, ...]
    adds: bool = False


# The messages of one step, which travel at the same time, and the links they use.
Step = tuple[str, list[Message]]


class Collective:
    """One way for devices to share data; a subclass is one file of this folder.

    `size` is the bytes of the whole buffer: what every device ends with (broadcast, all-gather, all-reduce),
    starts with (reduce-scatter, all-to-all), or what the root holds (scatter, gather). A node has `group`
    devices; only "hierarchical" and the level of links depend on it.
    """

    name: ClassVar[str] = ""
    # The textbook's primitive of data movement, as `graph.op` calls it, that it is on a network.
    primitive: ClassVar[str] = ""
    algorithms: ClassVar[tuple[str, ...]] = ()
    # Factor from size / time to the bandwidth of a link that was used in full, of n devices.
    summary: ClassVar[str] = ""

    def moves(self, algorithm: str, devices: Size, size: Size, group: Size = 1) -> Moves:
        """Bytes and steps; devices and sizes may be ints, arrays or symbols.

        Raises:
            UnknownName: an algorithm that this collective has not.
            InputError: nodes that do not divide the devices.
        """
        self._check(algorithm, devices, group)
        return getattr(self, f"_{algorithm}")(devices, size, group)

    def steps(self, algorithm: str, devices: int, group: int = 1) -> Iterator[Step]:
        """The definition: each step's messages, devices counted node by node.

        Raises:
            UnknownName, InputError: as `moves`.
        """
        self._check(algorithm, devices, group)
        yield from getattr(self, f"_{algorithm}_steps")(devices, group)

    def blocks(self, devices: int) -> float:
        """Blocks that the buffer of `size` bytes is cut into."""
        return devices

    def before(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        """What each device holds at first: block -> whose data is in it."""
        raise NotImplementedError

    def after(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        """What each device must hold at the end, at least."""
        raise NotImplementedError

    def _check(self, algorithm: str, devices: Size, group: Size) -> None:
        if algorithm not in self.algorithms:
            raise unknown(f"algorithm of {self.name}", algorithm, self.algorithms)
        if is_int(devices) and devices < 1:
            raise InputError(f"{self.name} needs at least one device, not {devices}")
        if is_int(devices) and is_int(group) and (group < 1 or devices % group):
            raise InputError(
                f"{devices} devices do not fill nodes of {group}", where=self.name,
                hint=f"nearest: {max(devices // max(group, 1), 1) * max(group, 1)} devices",
            )  # fmt: skip


COLLECTIVES: dict[str, Collective] = {}


def collective(made: type[Collective]) -> type[Collective]:
    """Registers a collective under its name."""
    COLLECTIVES[made.name] = made()
    return made


def one(level: str, steps: Size, serial: Size, total: Size, *, sent: Size | None = None,
        received: Size | None = None) -> Moves:  # fmt: skip
    """Moves of a single phase in which the busiest port is busy in every step."""
    return Moves((phase(level, steps, serial, total, sent=sent, received=received),))


def phase(level: str, steps: Size, serial: Size, total: Size, *, sent: Size | None = None,
          received: Size | None = None) -> Phase:  # fmt: skip
    """A phase; what the busiest device sends and gets is `serial` where nothing else is said."""
    return Phase(
        level, steps, serial, serial if sent is None else sent, serial if received is None else received,
        total,
    )  # fmt: skip


def level_of(devices: Size, group: Size) -> str:
    """The links an algorithm over all devices waits for: those between nodes, unless one node holds all."""
    one_node = is_int(devices) and is_int(group) and devices <= group
    flat = is_int(group) and group == 1
    return INSIDE if one_node or flat or is_symbol(devices) or is_symbol(group) else ACROSS


def others(n: Size) -> Size:
    """1 where there is anybody else, else 0; 1 in formulas."""
    return 1 if is_symbol(n) else minimum(n - 1, 1)


def ones_below(n: Size) -> Size:
    """Ones in the binary digits of 0 .. n - 1 together: hops of a binomial tree.

    As a formula n log2(n) / 2, which holds for powers of 2.
    """
    if is_symbol(n):
        import sympy

        return n * sympy.log(n, 2) / 2
    if is_array(n):
        import numpy

        found = numpy.zeros(n.shape)
        for bit in range(int(n.max()).bit_length()):
            found += _ones(n, 2**bit, numpy.maximum)
        return found
    return sum(_ones(n, 2**bit, max) for bit in range(n.bit_length()))


def _ones(n: Size, bit: int, largest: Callable[[Any, Any], Any]) -> Size:
    """How many of 0 .. n - 1 have a bit set."""
    return n // (2 * bit) * bit + largest(n % (2 * bit) - bit, 0)


def run(how: Collective, algorithm: str, devices: int, size: int, group: int = 1) -> Moves:
    """Carries the messages out, checks that every device ends with what it should, and counts the bytes.

    Raises:
        AssertionError: data that is missing, added twice, or sent by a device that has not got it.
    """
    held = how.before(devices)
    each = size / how.blocks(devices)
    found: dict[str, list[Any]] = {}
    for level, messages in how.steps(algorithm, devices, group):
        sent, received = [0.0] * devices, [0.0] * devices
        arriving = []
        for message in messages:
            taken = _combined(held, message)
            for source in message.sources:
                sent[source] += each * len(message.blocks)
            for target in message.targets:
                received[target] += each * len(message.blocks)
            arriving.append((message, taken))
        for message, taken in arriving:
            for target in message.targets:
                _take(held[target], taken, message, target)
        at = found.setdefault(level, [0, 0.0, [0.0] * devices, [0.0] * devices])
        at[0] += 1
        at[1] += max(*sent, *received)
        at[2] = [a + b for a, b in zip(at[2], sent, strict=True)]
        at[3] = [a + b for a, b in zip(at[3], received, strict=True)]
    for device, wanted in enumerate(how.after(devices)):
        for block, whose in wanted.items():
            assert held[device].get(block) == whose, f"device {device} ends with another {block}"
    return Moves(tuple(
        Phase(level, steps, serial, max(sent), max(received), sum(sent))
        for level, (steps, serial, sent, received) in found.items()
    ))  # fmt: skip


def _combined(held: Sequence[dict[Any, frozenset[int]]], message: Message) -> dict[Any, frozenset[int]]:
    taken: dict[Any, frozenset[int]] = {}
    for source in message.sources:
        for block in message.blocks:
            assert block in held[source], f"device {source} has no {block} to send"
            old = taken.get(block, frozenset())
            assert not (old & held[source][block]), f"{block} is added twice in the switch"
            taken[block] = old | held[source][block]
    return taken


def _take(
    mine: dict[Any, frozenset[int]], taken: dict[Any, frozenset[int]], message: Message, target: int
) -> None:
    for block, whose in taken.items():
        # what a switch gives back holds the target's own part already
        if message.adds and target not in message.sources:
            old = mine.get(block, frozenset())
            assert not (old & whose), f"{block} is added twice at device {target}"
            mine[block] = old | whose
        else:
            mine[block] = whose
