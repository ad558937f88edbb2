"""What holds for any archive, any flipped bit and any dates, looked for by hypothesis."""

import gzip
import io
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stcln.data.fetch.archives import unpack
from stcln.data.lengths import choose
from stcln.data.readers import tfrecord
from stcln.errors import BadInput, refusals_of_the_disk
from stcln.events import Silent
from stcln.study import Length

PARTS = st.sampled_from(
    ["..", ".", "", "a", "b", "...", "~", "C:", "a\\..\\..\\b", "..\\b", " ", "\u2025", "é", "x" * 300]
)
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE])
PAYLOAD = tfrecord.encode({"dates/doy": b"\x05\x00" * 20, "dates/shape": [4], "labels/data": bytes(range(90))})
DAYS = st.lists(st.integers(0, 474), min_size=1, max_size=40, unique=True).map(sorted)
UNTIL = st.tuples(st.integers(1, 12), st.integers(1, 31)).map(lambda day: f"{day[0]:02}-{day[1]:02}")


def stays_inside(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        (root / name).write_bytes(content)
        (root / "deep/er/target").mkdir(parents=True)
        try:
            with refusals_of_the_disk():
                unpack(root / name, root / "deep/er/target", Silent())
        except BadInput as error:
            assert name in str(error) or "shorten the name" in str(error)
        outside = {path.relative_to(root).as_posix() for path in root.rglob("*") if "target" not in path.parts}
        assert outside == {name, "deep", "deep/er"}
        assert not [path for path in root.rglob("*") if path.is_symlink()]


@settings(max_examples=60, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), link=st.booleans())
def test_no_member_of_a_zip_leaves_the_directory(names: list[str], link: bool) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (0o120777 if link else 0o100644) << 16
            archive.writestr(entry, "../" * 9)
    stays_inside("a.zip", stream.getvalue())


@settings(max_examples=60, deadline=None)
@given(members=st.lists(st.tuples(NAMES, KINDS, NAMES), min_size=1, max_size=4))
def test_no_member_of_a_tar_leaves_the_directory(members: list[tuple[str, bytes, str]]) -> None:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, kind, link in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, link, 3 if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(b"out"))
    stays_inside("a.tar.gz", stream.getvalue())


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), packed=st.booleans())
def test_no_flipped_bit_of_a_record_goes_unseen(at: float, bit: int, packed: bool) -> None:
    """Inside the gzip every bit is under a checksum; outside, a header may change (its time) but never what is read."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "7.tfrecord.gz"
        tfrecord.write(path, [PAYLOAD])
        data = bytearray(path.read_bytes() if packed else gzip.decompress(path.read_bytes()))
        data[int(at * len(data))] ^= 1 << bit
        path.write_bytes(bytes(data) if packed else gzip.compress(bytes(data)))
        try:
            assert list(tfrecord.read(path)) == [PAYLOAD] and packed
        except BadInput as error:
            assert "7.tfrecord.gz: " in str(error) and "fetch the file again" in str(error)


@settings(max_examples=150, deadline=None)
@given(days=DAYS, until=UNTIL, number=st.none() | st.integers(1, 50), drawn=st.booleans(), seed=st.integers(0, 99))
def test_no_date_after_the_cut_is_ever_chosen(
    days: list[int], until: str, number: int | None, drawn: bool, seed: int
) -> None:
    dates = np.datetime64("2018-09-01") + np.array(days, "timedelta64[D]")
    length = Length(until=until, dates=number, choose="random" if drawn else "even")
    try:
        kept = choose(dates, length, "2019", np.random.default_rng(seed) if drawn else None)
    except BadInput as error:
        assert f"2019-{until}" < str(dates[0])
        assert until in str(error)
        return
    assert all(str(day) <= f"2019-{until}" for day in dates[kept])  # as text, 06-31 lies behind 06-30
    assert (np.diff(kept) > 0).all() and len(kept) <= (number or len(days))
