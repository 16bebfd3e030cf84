"""Limits held in a test suite; `pytest --pharos-contracts` also collects *contract*.yaml files."""


def test_it_stays_small(budget):
    """Counted from shapes: no machine is needed."""
    budget("mobilenet_v2(width=0.75)", params="3M", macs="220 MMAC")


def test_it_is_fast_enough_on_the_board(budget):
    """Predicted, with the band inside the limits."""
    budget("mobilenet_v2(width=0.75)", latency="500 ms", memory="256 MB", on="cortex-a53", precision="int8")
