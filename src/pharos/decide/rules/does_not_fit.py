"""It does not fit: before anything can be said of speed."""

from collections.abc import Iterator

from pharos.decide.advice import Case, Finding, rule
from pharos.decide.rules.trained_elsewhere import gap


@rule(
    "does-not-fit",
    when="the memory of a step is larger than the machine's",
    costs="bytes beyond the machine's memory",
    remedy="the widest type in which it fits; where none does, how many times smaller the network "
    "must become",
    no_lab="bytes against a capacity: there is nothing to time",
    source="counted weights, activations and caches; the machine's capacity in the catalogue",
)
def find(case: Case) -> Iterator[Finding]:
    """Predicts the memory in narrower types."""
    room = case.machine.capacity_bytes.value
    trained = case.stated.trained_on_bytes
    # a rule of its own tells of what was trained on more
    if case.base.fits is False and room and (not trained or trained <= room):
        yield gap(case)
