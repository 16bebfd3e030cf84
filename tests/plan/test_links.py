"""Facts of links: every file's constants are whole, named after a link, and say what they were fitted on."""

import pytest

from pharos.facts.names import folder
from pharos.facts.reading import read_yaml
from pharos.machines.machine import find_machine, machine_names
from pharos.plan.collectives import COLLECTIVES
from pharos.plan.communication import curve_of, time_on
from pharos.plan.link_form import COLLECTIVE
from pharos.plan.step import Stack, fitted_stack
from pharos.plan.topology import find_link, link_names, link_of, topology_of

FILES = {name: read_yaml(path).data for name, (path, _) in folder("collectives").items()}


@pytest.mark.parametrize("name", FILES)
def test_constants_of_a_link(name):
    data = FILES[name]
    assert data["sources"]
    assert data["bytes_per_s"] > 0
    for collective, entry in data["collectives"].items():
        assert collective in COLLECTIVES
        assert set(entry["constants"]) == {*COLLECTIVE.constants, *COLLECTIVE.switches}
        assert all(v > 0 for k, v in entry["constants"].items() if k in COLLECTIVE.constants)
        assert entry["constants"]["rate"] <= 1
        assert entry["known"] == "fitted"
        assert 0.05 < entry["error"] < 0.5
        assert entry["rows"] <= 300
        assert "other sizes" in entry["held_out"]


def test_a_link_is_found_by_its_names():
    for name in link_names():
        assert find_link(name).id == name
    assert find_link("IB-NDR").id == "infiniband-ndr"
    assert find_link("400Gb/s").bytes_per_s == 50e9
    assert find_link("NVLink_4") == find_link("nvlink4")


def test_links_of_machines_are_the_catalogues():
    assert link_of(find_machine("h100-sxm")).id == "nvlink-4"
    assert link_of(find_machine("h100-sxm")).adds
    assert not link_of(find_machine("h100-nvl")).adds
    assert link_of(find_machine("rtx4090")).id == "pcie-4"
    assert link_of(find_machine("mi300x")).kind == "xgmi"
    assert link_of(find_machine("stm32f746_cortex_m7")) is None
    known = [name for name in machine_names() if link_of(find_machine(name)) is not None]
    assert len(known) > 35
    assert topology_of(find_machine("gb200"), 72).nodes == 1
    assert topology_of(find_machine("h100-sxm"), 72).nodes == 9


def test_fitted_constants_speak_for_their_link_alone():
    own = curve_of(find_link("nvlink-4"), "all-reduce")
    other = curve_of(find_link("nvlink-5"), "all-reduce")
    nobody = curve_of(find_link("infiniband-ndr"), "all-reduce", "across")
    assert own.evidence.kind.value == "fitted"
    assert other.evidence.kind.value == nobody.evidence.kind.value == "assumed"
    assert own.error < other.error < nobody.error
    assert "stands in" in other.evidence.where


def test_a_faster_link_of_the_same_constants_is_faster():
    columns = {"bytes": 1e9, "devices": 8, "nodes": 1, "steps": 14, "switch": 0.0, "before": 0.0}
    times = [
        float(
            time_on(
                find_link(n), "all-reduce", "inside", {**columns, "ideal": 1.75e9 / find_link(n).bytes_per_s}
            )[0]
        )
        for n in ("nvlink-3", "nvlink-4", "nvlink-5")
    ]
    assert times == sorted(times, reverse=True)


def test_the_training_stack_is_near_what_its_parts_take_alone():
    """Fitted factors over kernels and wires stay within two of 1: the rest of the model carries the prediction."""
    stack = fitted_stack()
    assert isinstance(stack, Stack)
    assert 0.8 < stack.slow < 1.25
    assert all(0.4 < x < 2 for x in (stack.reduce, stack.sync, stack.update))
    assert 0.05 < stack.error < 0.3
