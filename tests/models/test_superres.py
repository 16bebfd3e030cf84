"""ESPCN: counts by hand, an enlarged image, and the page that shows how it was added."""

from pathlib import Path

import pytest

from pharos.graph.count import count
from pharos.models.registry import find

ROOT = Path(__file__).parents[2]


def test_counts_by_hand():
    counted = count(find("espcn(scale=3, resolution=100)").graph())
    weights = [64 * 25, 32 * 64 * 9, 9 * 32 * 9]
    assert counted.parameters == sum(weights) + 64 + 32 + 9
    assert counted.macs == 100 * 100 * sum(weights)


def test_the_image_is_enlarged_as_pytorch_does_it():
    torch = pytest.importorskip("torch")
    from pharos.convert.to_torch import to_torch

    nn = torch.nn
    plain = nn.Sequential(
        nn.Conv2d(1, 64, 5, padding=2), nn.Tanh(), nn.Conv2d(64, 32, 3, padding=1), nn.Tanh(),
        nn.Conv2d(32, 9, 3, padding=1), nn.PixelShuffle(3),
    )  # fmt: skip
    module = to_torch(find("espcn(resolution=11)").graph())
    names = {"0": "conv1", "2": "conv2", "4": "conv3"}
    module.load_state_dict(
        {f"{names[k.split('.')[0]]}.{k.split('.')[1]}": v for k, v in plain.state_dict().items()}
    )
    x = torch.randn(1, 1, 11, 11)
    torch.testing.assert_close(module(x), plain(x))
    assert module(x).shape == (1, 1, 33, 33)


def test_the_page_shows_these_very_files():
    page = (ROOT / "docs" / "adding.md").read_text()
    for path in ("src/pharos/ops/pixel_shuffle.py", "src/pharos/models/superres.py"):
        added = page.split(f"+++ b/{path}\n")[1].split("```")[0].splitlines()[1:]
        assert "\n".join(line[1:] for line in added) + "\n" == (ROOT / path).read_text()
