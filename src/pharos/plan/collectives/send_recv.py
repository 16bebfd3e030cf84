"""Send and receive: one device's buffer to one other."""

from collections.abc import Iterator
from typing import Any

from pharos.graph.op import BROADCAST
from pharos.plan.collectives.base import Collective, Message, Moves, Step, collective, level_of, one, others
from pharos.quantity.sizes import Size


@collective
class SendRecv(Collective):
    """The first device sends `size` bytes to the last, as stages of a pipeline do."""

    name = "send-recv"
    primitive = BROADCAST
    algorithms = ("direct",)
    summary = "one device's buffer to one other"

    def blocks(self, devices: int) -> float:
        return 1

    def before(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [{0: frozenset({0})}, *[{} for _ in range(devices - 1)]]

    def after(self, devices: int) -> list[dict[Any, frozenset[int]]]:
        return [*[{} for _ in range(devices - 1)], {0: frozenset({0})}]

    def _direct(self, n: Size, size: Size, group: Size) -> Moves:
        once = others(n)
        return one(level_of(n, group), once, once * size, once * size)

    def _direct_steps(self, n: int, group: int) -> Iterator[Step]:
        if n > 1:
            yield level_of(n, group), [Message((0,), (n - 1,), (0,))]
