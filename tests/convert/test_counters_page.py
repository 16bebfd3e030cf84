"""docs/counters.md: every row within half a percent of the truth, and a sample of them counted again."""

import re
import sys
from pathlib import Path

import pytest

import pharos
from pharos.graph.count import count

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
from counter_models import ROWS  # noqa: E402

PAGE = (ROOT / "docs" / "counters.md").read_text()
NUMBER = re.compile(r"^([\d,]+)(?: \(([\d,]+)\))?$")


def number(text):
    return int(text.replace(",", ""))


def table():
    """Row of the page by name: parameters, active ones, MACs, ratio to the truth, and the others' ratios."""
    found = {}
    for line in PAGE.splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        stored = NUMBER.match(cells[1]) if len(cells) == 11 else None
        if stored:
            name = cells[0].removesuffix(" †").removesuffix(" *meta*")
            active = number(stored[2] or stored[1])
            found[name] = (number(stored[1]), active, number(cells[2]), float(cells[3]), cells[5:])
    return found


TABLE = table()


def test_the_page_holds_every_network():
    assert set(TABLE) == set(ROWS)
    groups = {g: sum(r.group == g for r in ROWS.values()) for g in {r.group for r in ROWS.values()}}
    assert groups["torchvision"] + groups["timm"] >= 60
    assert groups["transformers"] >= 30
    wanted = ("Llama-3-70B", "Mixtral 8x7B", "DeepSeek-V3", "Qwen3-30B-A3B", "T5", "Whisper", "CLIP", "ViT", "Mamba", "DLRM",
              "LSTM", "DS-CNN")  # fmt: skip
    assert [w for w in wanted if not any(name.startswith(w) for name in TABLE)] == []


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_right(name):
    parameters, active, macs, ratio, others = TABLE[name]
    assert abs(ratio - 1) <= 0.005
    assert 0 < active <= parameters
    assert macs > 0
    assert all(o == "fails" or float(o) >= 0 for o in others)
    if ROWS[name].macs is not None:
        assert macs == ROWS[name].macs


# Of each kind of network one; torchvision's and timm's are not at hand where the tests run.
SAMPLE = ["GPT-2 small, 1024 tokens", "Mixtral 8x7B, 2048 tokens", "DeepSeek-V3, 2048 tokens", "BERT-base, 128 tokens",
          "T5-small, 512 and 128 tokens", "Whisper-base, 30 s and 64 tokens", "CLIP ViT-B/32", "Swin-tiny of transformers",
          "OPT-125M, 128 tokens", "wav2vec 2.0 base, 2 s", "LSTM, 1000 steps", "DLRM-like, batch 128",
          "DS-CNN, 49 x 10"]  # fmt: skip


@pytest.mark.parametrize("name", SAMPLE)
def test_counted_again(name):
    row = ROWS[name]
    with torch.device("meta"):
        module, inputs = row.build().eval(), row.tensors("meta")
    given = ((), inputs) if row.group == "transformers" else (tuple(inputs.values()), {})
    counted = count(pharos.trace(module, *given[0], **given[1]).graph())
    assert (counted.parameters, counted.active_parameters, counted.macs) == TABLE[name][:3]
    assert counted.parameters == sum(p.numel() for p in module.parameters())
    assert counted.uncounted == ()
