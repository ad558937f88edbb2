"""The README shows what is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ("architecture", "study", "data", "training", "findings", "champion")
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


@pytest.mark.parametrize(
    "page",
    [
        "README.md",
        *(f"docs/{name}.md" for name in ("architecture", "study", "data", "training", "findings", "champion")),
    ],
)
def test_every_picture_and_page_it_names_exists(page: str) -> None:
    path = ROOT / page
    assert [name for name in LINK.findall(path.read_text()) if not (path.parent / name).exists()] == []
