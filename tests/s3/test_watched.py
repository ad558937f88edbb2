"""Seasons in a bucket are seen as on a disk, wait until they are whole, and a server that is gone is a sentence."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from on_s3 import workspace
from seaweed import Seaweed
from upath import UPath

from stcln.errors import BadInput

pytestmark = [
    pytest.mark.orchestration,
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.skipif(not find_spec("dagster"), reason="no Dagster here: pip install 'stcln[orchestration]'"),
]
LAYOUTS = ("mtlcc", "mtlcc-geotiff", "pastis", "cube", "zarr")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_season_in_a_bucket_is_seen_as_on_a_disk_and_read(
    s3: Seaweed, uploaded: Callable[[Seaweed, str], str], simulated: Callable[[str], Path], tmp_path: Path, layout: str
) -> None:
    from orchestration.seasons import source

    address = uploaded(s3, layout)
    found = {}
    for kind, where in (("disk", str(simulated(layout))), ("bucket", address)):
        space = workspace(tmp_path / kind, layout, where)
        at = source.top(space)
        assert at is not None
        with source.looking(at):
            found[kind] = source.held(at, space.study.dataset), source.season(at, space.study.dataset, "2018")
            source.try_reading(found[kind][1])
    (here, mine), (there, theirs) = found["disk"], found["bucket"]
    assert here.seasons == there.seasons == ("2018",) and not there.unreadable
    assert (mine.files, mine.bytes) == (theirs.files, theirs.bytes) and mine.files


def test_a_season_in_a_bucket_is_ready_when_two_looks_find_the_same_and_not_while_it_changes(
    s3: Seaweed, uploaded: Callable[[Seaweed, str], str], tmp_path: Path
) -> None:
    from orchestration.seasons.arrival import Memory, look

    address = uploaded(s3, "mtlcc")
    space = workspace(tmp_path, "mtlcc", address)
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("2018", "2017"))
    space = type(space)(tmp_path)
    first = look(space, Memory())
    assert not first.ready and "Season 2018 is arriving" in first.said[0]
    tile = next(name for name in s3.system.find(address) if name.endswith("1.tfrecord.gz"))
    s3.system.pipe(tile, bytes(reversed(s3.system.cat(tile))))  # as many bytes, another ETag
    second = look(space, first.memory)
    assert not second.ready and "arriving" in second.said[0]
    assert list(look(space, second.memory).ready) == ["2018"]


def test_a_server_that_is_gone_or_refuses_is_a_sentence_and_no_season_has_gone(
    mortal_s3: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, simulated: Callable[[str], Path]
) -> None:
    from orchestration.seasons.arrival import Memory, look

    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    address = mortal_s3.bucket("watched") + "/cubes"
    mortal_s3.put(simulated("cube"), address)
    space = workspace(tmp_path, "cube", address)
    memory = look(space, Memory()).memory
    assert memory.held.keys() == {"2018"}
    with pytest.raises(BadInput, match="not there"):
        look(workspace(tmp_path / "other", "cube", "s3://no-such-bucket/cubes"), memory)
    mortal_s3.kill()
    with pytest.raises(BadInput, match=f"{UPath(address)}.*the server does not answer"):
        look(space, memory)
