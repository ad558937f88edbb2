"""A bucket that gives nothing: one sentence, exit status 2, nothing half written; afterwards the step goes on."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from on_s3 import Until, content, run, workspace
from refusals import Refused
from seaweed import Seaweed
from tiny_study import restudy

from stcln.data.fetch import elsewhere, line, progress
from stcln.data.readers import blocks
from stcln.errors import BadInput, NoAnswer

Uploaded = Callable[[Seaweed, str], str]
ANSWER = "the server does not answer"
PREPARE = "prepare --season 2018"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon: what is tested is how it ends."""
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for name, value in (("FIRST", 1), ("LATER", 1), ("FACTOR", 0.01)):
        monkeypatch.setattr(line, name, value)


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("key", "secret"), [("stcln-tests", "wrong"), ("nobody", "not-a-secret")], ids=["wrong secret", "unknown key"]
)
def test_wrong_credentials(
    s3: Seaweed, uploaded: Uploaded, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch,
    key: str, secret: str, linked: bool,
) -> None:  # fmt: skip
    address = uploaded(s3, "mtlcc")
    workspace(tmp_path, "mtlcc", address, linked=linked)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    s3.forget()
    refused("fetch", f"{address}: access denied, The … ; set the key and secret")


@pytest.mark.parametrize("linked", [False, True])
def test_no_credentials(
    s3: Seaweed, uploaded: Uploaded, tmp_path: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    address = uploaded(s3, "mtlcc")
    workspace(tmp_path, "mtlcc", address, linked=linked)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    s3.forget()
    refused("fetch", f"{address}: access denied, Unable to locate credentials; set the key and secret")


@pytest.mark.parametrize("linked", [False, True])
def test_a_bucket_that_is_not_there(s3: Seaweed, tmp_path: Path, refused: Refused, linked: bool) -> None:
    workspace(tmp_path, "mtlcc", "s3://no-such-bucket/archive", linked=linked)
    refused("fetch", "s3://no-such-bucket/archive: not there, The specified bucket does not exist; correct the bucket")


@pytest.mark.parametrize("linked", [False, True])
def test_an_empty_place_in_a_bucket(s3: Seaweed, tmp_path: Path, refused: Refused, linked: bool) -> None:
    bucket = s3.bucket(f"empty-{str(linked).lower()}")
    workspace(tmp_path, "mtlcc", f"{bucket}/archive", linked=linked)
    refused("fetch", "dataset.source: … /archive holds no files; correct it")


@pytest.mark.parametrize("linked", [False, True])
def test_no_server(mortal_s3: Seaweed, uploaded: Uploaded, tmp_path: Path, refused: Refused, linked: bool) -> None:
    address = uploaded(mortal_s3, "mtlcc")
    workspace(tmp_path, "mtlcc", address, linked=linked)
    mortal_s3.kill()
    refused("fetch", f"{address}: {ANSWER}, Could not connect to the endpoint URL … ; check the line")


def big(server: Seaweed) -> tuple[str, bytes]:
    """A file of several segments in a bucket."""
    payload = np.random.default_rng(0).bytes(24 << 20)
    address = server.bucket("big") + "/archive"
    server.system.pipe(f"{address}/one.bin", payload)
    return address, payload


def test_a_fetch_goes_on_where_the_server_was_killed(
    mortal_s3: Seaweed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "PIECE", 1 << 16)
    monkeypatch.setattr(progress, "EVERY", 0)
    address, payload = big(mortal_s3)
    space = workspace(tmp_path, "mtlcc", address)
    with pytest.raises(BadInput, match=r"one.bin: it was tried again and again .*; check the connection and run it"):
        run(space, "fetch", listener=Until("", 1, mortal_s3.kill))
    assert not space.raw.exists()
    mortal_s3.start()
    run(space, "fetch")
    found = hashlib.md5((space.raw / "one.bin").read_bytes()).hexdigest()
    assert found == hashlib.md5(payload).hexdigest()


@pytest.mark.parametrize(("layout", "threads"), [("mtlcc", 1), ("pastis", 2), ("zarr", 1)])
def test_a_prepare_goes_on_where_the_server_was_killed(
    mortal_s3: Seaweed, uploaded: Uploaded, simulated: Callable[[str], Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, layout: str, threads: int,
) -> None:  # fmt: skip
    """No tile is taken for broken because its server is gone, so nothing of the season is lost afterwards.

    The first tile is made before workers start.
    """
    monkeypatch.setattr("stcln.data.prepare.TILES_A_WORKER", 1)
    monkeypatch.setattr(blocks, "BUDGET", 1)  # one tile at a time, so that the cube is not read before the kill
    limits: dict[str, Any] = {"max_rejected": 1.0}
    local = workspace(tmp_path / "local", layout, str(simulated(layout)), **limits)
    linked = workspace(tmp_path / "linked", layout, uploaded(mortal_s3, layout), linked=True, **limits)
    for space in (local, linked):
        restudy(space, compute={"threads": threads})
        run(space, "fetch")
    run(local, "prepare", "--season", "2018")
    with pytest.raises(
        NoAnswer, match=rf"s3://.*: {ANSWER}, .*; check the line and AWS_ENDPOINT_URL, and run it again"
    ):
        run(linked, "prepare", "--season", "2018", listener=Until("tile", 1 if threads > 1 else 2, mortal_s3.kill))
    assert not list(linked.seasons.glob("*")) and not list(linked.seasons.glob(".*"))
    mortal_s3.start()
    run(linked, "prepare", "--season", "2018")
    assert content(linked.season("2018")) == content(local.season("2018"))
