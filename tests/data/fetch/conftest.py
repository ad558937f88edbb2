"""A bad server, and downloads that do not wait."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from hostile import Server, serving

from stcln.data.fetch import line, listing, ranges
from stcln.workspace import Workspace

STUDIES = Path(__file__).parents[3] / "studies"
SEGMENT = 1 << 16


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait between two tries, and small ranges."""
    monkeypatch.setattr(line, "FACTOR", 0.0)
    monkeypatch.setattr(ranges, "SEGMENT", SEGMENT)


@pytest.fixture
def server(impatient: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with serving() as found:
        monkeypatch.setattr(listing, "ZENODO", f"{found.url}/api/records")
        yield found


Make = Callable[..., Workspace]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A function: a workspace of the demo with another source."""

    def workspace(source: str, pinned: dict[str, dict[str, object]] | None = None, **dataset: object) -> Workspace:
        study = yaml.safe_load((STUDIES / "demo.yaml").read_text()) | {"pinned": pinned or {}}
        study["dataset"] |= {"source": source, **dataset}
        study["simulation"] = {"tiles": 5, "size": 12, "dates": 6}
        (tmp_path / "work").mkdir(exist_ok=True)
        (tmp_path / "work/params.yaml").write_text(yaml.safe_dump(study))
        return Workspace(tmp_path / "work")

    return workspace
