"""Trials against a server that does everything wrong, seeded: the right members or one clear sentence."""

import random
from pathlib import Path

import pytest
from hostile import Fault, File, Server
from patches import held, pastis, study, trial_of
from test_hostile import misfortune

from stcln.data.fetch import line as lines
from stcln.data.fetch import remote_zip
from stcln.data.fetch.line import Line
from stcln.data.fetch.sources import Remote
from stcln.data.fetch.trials import bring
from stcln.errors import BadInput

TRIAL = study("pastis", {"fold": 2, "limit": 3})
IDS = (10001, 10006, 10011)
ENOUGH = [b""] * 3  # versions: no further one but those here
Versions = list[tuple[bytes, dict[str, bytes]]]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """Three versions of an archive, and what a trial takes of each."""
    found = []
    for patches in (30, 31, 45):
        path = tmp_path_factory.mktemp("archive") / "a.zip"
        files = pastis(path, patches, seed=patches)
        found.append((path.read_bytes(), trial_of(files, IDS)))
    return found


def brought(remote: Remote, directory: Path) -> dict[str, bytes] | None:
    """What a trial brought; None where it ended in a sentence."""
    try:
        bring(TRIAL, [remote], directory, Line())
    except BadInput as refused:
        assert "\n" not in str(refused) and str(refused).endswith("."), remote
        return None
    return held(directory)


@pytest.mark.parametrize("block", range(4))
def test_every_trial_ends_in_the_right_members_or_in_one_sentence(
    server: Server, archives: Versions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """And one that was refused is brought once the server behaves."""
    monkeypatch.setattr(lines, "FIRST", 4)
    monkeypatch.setattr(lines, "LATER", 6)
    monkeypatch.setattr(remote_zip, "PIECE", 7000)
    ended = []
    for seed in range(block * 50, block * 50 + 50):
        rng, draw, version = random.Random(seed), random.Random(f"faults of {seed}"), 0
        file = File(archives[0][0], etag=rng.random() < 0.6, modified=rng.random() < 0.3)
        server.files[f"/{seed}"], often = file, rng.choice((0.0, 0.1, 0.3, 0.6))

        def fault(
            path: str, start: int, file: File = file, draw: random.Random = draw, often: float = often
        ) -> Fault | None:
            nonlocal version
            if draw.random() >= often:
                return None
            if draw.random() < 0.05 and version < 2:
                version += 1
                file.change(archives[version][0])
                return None
            return misfortune(draw, file, ENOUGH, draw.random() < 0.5)

        server.fault = fault
        remote = Remote("a.zip", f"{server.url}/{seed}")
        found = brought(remote, tmp_path / str(seed))
        assert found is None or found in [files for _, files in archives[: version + 1]], seed
        ended.append(found is not None)
        server.fault = lambda *_: None
        assert brought(remote, tmp_path / str(seed)) == archives[version][1], seed
    assert 0.2 < sum(ended) / len(ended) < 1  # both ends are met
