"""Against a server that does everything wrong, seeded: the right bytes or one clear sentence, whatever happens."""

import hashlib
import random
from email.utils import formatdate
from pathlib import Path
from time import time

import pytest
from hostile import Fault, File, Server, content

from stcln.data.fetch import line as lines
from stcln.data.fetch.line import Line
from stcln.data.fetch.ranges import download
from stcln.data.fetch.sources import Remote
from stcln.errors import BadInput

ROUNDS = 480
SIZES = (0, 1, 4095, 65_536, 65_537, 300_000, 700_000)
BUSY = (408, 425, 429, 500, 502, 503, 504)


def misfortune(rng: random.Random, file: File, versions: list[bytes], known: bool) -> Fault:
    """What goes wrong with an answer: what nobody could notice only where a checksum is known."""

    def change() -> None:
        versions.append(content(rng.choice(SIZES[1:]), rng.randrange(1 << 30)))
        file.change(versions[-1])

    kinds = [
        Fault(cut=rng.randrange(1, 70_000)),
        Fault(cut=rng.randrange(1, 70_000)),
        Fault(cut=-1),
        Fault(status=rng.choice(BUSY), after=rng.choice((None, "0", formatdate(time() - 5), "soon"))),
        Fault(status=rng.choice(BUSY)),
        Fault(ignore=True),
        Fault(longer=rng.choice((-1, 1)) * rng.randrange(1, 1 << 30)),  # the same lie twice would be believed
        Fault(shift=rng.choice((1, 4096))),
    ]
    if known and rng.random() < 0.1:
        kinds = [Fault(flip=True)]
    if not known and (file.etag or file.modified) and len(versions) < 3:
        kinds.append(Fault(change=change))
    return rng.choice(kinds)


def serve(server: Server, seed: int) -> tuple[Remote, list[bytes]]:
    """A file as some server has it, and the versions of it that there will have been."""
    rng, draw = random.Random(seed), random.Random(f"faults of {seed}")
    body = content(rng.choice(SIZES), seed)
    file = File(body, etag=rng.random() < 0.6, modified=rng.random() < 0.3, ranges=rng.random() < 0.8)
    file.chunked = not file.ranges and rng.random() < 0.3
    known, often, versions = rng.random() < 0.4, rng.choice((0.2, 0.5, 0.9)), [body]
    server.files[f"/{seed}"] = file
    server.fault = lambda *_: misfortune(draw, file, versions, known) if draw.random() < often else None
    url = f"{server.url}/{seed}"
    return Remote("a", url, len(body), hashlib.md5(body).hexdigest()) if known else Remote("a", url), versions


def brought(remote: Remote, directory: Path, versions: list[bytes]) -> bool:
    """Whether a download ended in the right bytes, else in a sentence."""
    try:
        found = download([remote], directory, Line())["a"]
    except BadInput as refused:
        assert "\n" not in str(refused) and str(refused).endswith("."), remote
        assert not (directory / "files/a").exists(), remote
        return False
    got = (directory / "files/a").read_bytes()
    assert got in versions, remote
    assert hashlib.md5(got).hexdigest() == found.md5, remote
    return True


@pytest.mark.parametrize("block", range(8))
def test_every_round_ends_in_the_right_bytes_or_in_one_sentence(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    """And what was refused is brought by the next run once the server behaves, or, if that goes on from a wrong byte
    which the checksum then finds, by the one after."""
    monkeypatch.setattr(lines, "FIRST", 4)
    monkeypatch.setattr(lines, "LATER", 6)
    ended: list[bool] = []
    for seed in range(block * ROUNDS // 8, (block + 1) * ROUNDS // 8):
        remote, versions = serve(server, seed)
        ended.append(brought(remote, tmp_path / str(seed), versions))
        server.fault = lambda *_: None
        assert ended[-1] or any(brought(remote, tmp_path / str(seed), versions[-1:]) for _ in range(2))
    assert 0.4 < sum(ended) / len(ended) < 1  # both ends are met
