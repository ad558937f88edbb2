"""The README shows what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "benchmarks/README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md")))]
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize("page", PAGES)
def test_every_picture_and_page_it_names_exists(page: str) -> None:
    path = ROOT / page
    assert [name for name in LINK.findall(path.read_text()) if not (path.parent / name).exists()] == []
