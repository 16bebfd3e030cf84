"""The page of profiles is what the profiles say."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_is_up_to_date():
    page = runpy.run_path(str(ROOT / "benchmarks/profiles.py"))["page"]()
    assert (ROOT / "docs/profiles.md").read_text(encoding="utf-8") == page
