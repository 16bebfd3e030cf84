"""Every machine and profile of the catalogue: schema, sources, names, sane ridge points."""

import math
import re

import pytest

from pharos.facts.names import fold, folder, resolve
from pharos.facts.reading import read_yaml
from pharos.machines.machine import find_machine, from_file, machine_names
from pharos.machines.profile import profile_of
from pharos.quantity.dtypes import BITS
from pharos.quantity.errors import PharosError

NAMES = sorted(machine_names())
SOURCES = read_yaml(folder("machines")[NAMES[0]][0].parents[1] / "sources.yaml").data
CLASSES = (
    "gemm",
    "conv",
    "pointwise",
    "grouped_conv",
    "depthwise",
    "attention",
    "recurrence",
    "gather",
    "norm",
    "softmax",
    "elementwise",
    "pool",
    "copy",
    "unknown",
)


def test_every_device_is_there():
    assert len(NAMES) == 73


@pytest.mark.parametrize("name", NAMES)
def test_figures_have_sources(name):
    data = read_yaml(folder("machines")[name][0]).data
    for dtype, entry in data["peaks"].items():
        if dtype != "note" and entry["ops_per_s"] is not None:
            assert entry["source"], dtype
    for section in (data["memory"]["main"], data["memory"]["cache"], data["cores"], data["power"]):
        figures = [
            v for k, v in section.items() if k not in ("source", "note", "scope", "technology", "kind")
        ]
        if any(v not in (None, []) for v in figures):
            assert section["source"], section
    for key in _keys(data):
        assert key in SOURCES, key


def _keys(data):
    if isinstance(data, dict):
        for key, value in data.items():
            if key == "source" and isinstance(value, list):
                yield from value
            elif key not in ("price", "measured"):
                yield from _keys(value)


@pytest.mark.parametrize("name", NAMES)
def test_machine_reads_and_is_sane(name):
    machine = find_machine(name)
    assert machine.id == name
    for dtype in machine.peaks:
        ridge = machine.ridge_point(dtype)
        if ridge is not None:
            # a wafer with its memory on chip lies far below, a board with slow memory far above
            assert 0.005 < ridge < 5000, (dtype, ridge)
    ordered = [machine.peak(d).value for d in ("fp64", "fp32", "fp16", "fp8") if machine.peak(d)]
    assert ordered == sorted(ordered)
    sold, usable = machine.memory_sold_bytes.value, machine.memory_usable_bytes.value
    if sold and usable:
        assert 0.85 * sold < usable < 1.08 * sold
    assert profile_of(machine).curve("gemm", "fp16", "forward").error > 0


def test_names_do_not_clash():
    seen = {}
    for name, aliases in machine_names().items():
        for spelling in {fold(name), *map(fold, aliases)}:
            assert seen.setdefault(spelling, name) == name, spelling


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("a100-sxm-80gb", "nvidia_a100_sxm_80gb"),
        ("H100-SXM", "nvidia_h100_sxm5"),
        ("cortex-a53", "rpi3_cortex_a53"),
        ("NVIDIA H100 80GB HBM3", "nvidia_h100_sxm5"),
        ("T4", "nvidia_t4"),
    ],
)
def test_short_names(asked, found):
    known = {n: a for n, (_, a) in folder("machines").items()}
    assert resolve("machine", asked, known) == found


@pytest.mark.parametrize(
    ("name", "dtype", "ops", "bandwidth"),
    # data sheets: dense rates, never the sparse ones
    [
        ("h100-sxm", "bf16", 989.4e12, 3.35e12),
        ("a100-sxm-80gb", "bf16", 312e12, 2.039e12),
        ("nvidia_h100_pcie", "fp16", 756e12, 2.039e12),
        ("v100", "fp16", 125e12, 900e9),
        ("t4", "int8", 130e12, 320e9),
    ],
)
def test_peaks_are_the_dense_ones_of_the_data_sheets(name, dtype, ops, bandwidth):
    machine = find_machine(name)
    assert machine.peak(dtype).value == ops
    assert machine.bandwidth_bytes_per_s.value == bandwidth


def test_unknown_stays_unknown():
    board = find_machine("cortex-a53")
    assert board.peak("int8").value is None
    assert board.bandwidth_bytes_per_s.value is None
    assert board.ridge_point("fp32") is None


@pytest.mark.parametrize("path", [p for p, _ in folder("profiles").values()], ids=lambda p: p.stem)
def test_profiles_say_how_they_know(path):
    data = read_yaml(path).data
    assert re.fullmatch(r"machine|core|kind", next(iter(data["applies_to"])))
    for entries in data["classes"].values():
        for entry in entries:
            assert entry["known"] in ("fitted", "measured", "assumed")
            assert 0.05 <= entry["error"] < 1.5
            assert set(entry.get("dtypes", [])) <= set(BITS)
            if entry["known"] == "fitted":
                assert entry["rows"] > 10
                assert entry["fitted_on"]


@pytest.mark.parametrize("kind", ["gpu", "tpu", "npu", "cpu", "mobile_soc", "mcu"])
def test_every_kind_has_a_curve_for_every_class(kind):
    machine = next(m for m in map(find_machine, NAMES) if m.kind == kind)
    for cost_class in CLASSES:
        curve = profile_of(machine).curve(cost_class, "int8", "decode")
        assert curve.compute > 0
        assert math.isfinite(curve.launch_s)


def test_a_specific_profile_wins():
    gpu, h100 = find_machine("l4"), find_machine("h100")
    assert "aiconfigurator" in profile_of(h100).curve("gemm", "bf16", "forward").evidence.where
    assert (
        profile_of(h100).curve("gemm", "bf16", "forward").error
        < profile_of(gpu).curve("gemm", "bf16", "forward").error
    )


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "id: mine\nname: My board\nkind: cpu\npeaks:\n  fp32: {ops_per_s: 10 GFLOP/s, unit: vector, source: [me]}\n"
        "memory: {main: {sold_bytes: 1 GiB, bandwidth_bytes_per_s: 2 GB/s, source: [me]}}\n"
    )
    mine = from_file(path)
    assert mine.peak("fp32").value == 10e9
    assert mine.capacity_bytes.value == 2**30
    assert mine.ridge_point("fp32") == 5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("id: x\nname: X\nkind: gpoo\n", "did you mean gpu"),
        ("id: x\nname: X\nkind: gpu\npeeks: {}\n", "did you mean peaks"),
        ("id: x\nname: X\nkind: gpu\npeaks:\n  fp31: {ops_per_s: 1}\n", "fp32"),
        ("id: x\nname: X\nkind: gpu\nmemory:\n  main: {sold_bytes: 80 GHz}\n", "frequency"),
        ("name: X\nkind: gpu\n", "needs 'id'"),
        ("[1]\n", "mapping"),
    ],
)
def test_a_wrong_file_is_told_by_line(tmp_path, text, told):
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(PharosError, match=r"wrong\.yaml:\d") as caught:
        from_file(path)
    assert told in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_every_machine_can_be_shown(name):
    from rich.console import Console

    from pharos.report.catalogue import print_machine

    screen = Console(width=80, record=True, quiet=True)
    print_machine(screen, find_machine(name))
    data = read_yaml(folder("machines")[name][0]).data
    assert all(isinstance(alias, str) for alias in data["aliases"])
