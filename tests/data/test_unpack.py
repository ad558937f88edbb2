"""Unpacking archives that are damaged, hostile, huge, or were left half unpacked."""

import io
import random
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from damaged import damage

from stcln.data.fetch import archives
from stcln.data.fetch.archives import unpack
from stcln.data.fetch.members import merge
from stcln.errors import BadInput
from stcln.events import Silent

NOISE = random.Random(5).randbytes(1 << 16)
FILES = {f"deep/{n}/a{n}.bin": NOISE[n * 97 : n * 97 + n * 1500] for n in range(8)} | {"text": b"field " * 3000}
KINDS = ["a.zip", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tar.xz", "a.tar"]
DAMAGED = ["a.zip", "a.tar.gz", "a.tar.bz2", "a.tar.xz"]  # a plain tar has no checksum of what its members hold


def build(path: Path, files: dict[str, bytes] = FILES, method: int = zipfile.ZIP_DEFLATED) -> Path:
    """Write a generated archive of the kind that its name says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", method) as packed:
            packed.mkdir("empty")
            for name, body in files.items():
                packed.writestr(name, body)
        return path
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz", ".tar": "w"}[path.suffix]
    with tarfile.open(path, mode) as tar:
        for name, body in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return path


def held(directory: Path) -> dict[str, bytes]:
    return {p.relative_to(directory).as_posix(): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def unpacked(archive: Path) -> dict[str, bytes]:
    unpack(archive, archive.parent / "members", Silent())
    return held(archive.parent / "members")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_archive_gives_its_files(tmp_path: Path, name: str) -> None:
    assert unpacked(build(tmp_path / name)) == FILES
    assert unpacked(tmp_path / name) == FILES  # and again over what stands
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "members"])


def test_a_finished_member_is_left_and_a_hollow_one_written_again(tmp_path: Path) -> None:
    archive = build(tmp_path / "a.zip")
    unpacked(archive)
    kept, hollow = (tmp_path / "members/deep" / name for name in ("7/a7.bin", "6/a6.bin"))
    hollow.write_bytes(bytes(hollow.stat().st_size))  # as a power cut leaves it
    before = kept.stat().st_ino
    assert unpacked(archive) == FILES
    assert kept.stat().st_ino == before


def test_what_an_earlier_version_of_the_archive_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "members/deep").mkdir(parents=True)
    (tmp_path / "members/deep/old.bin").write_bytes(b"old")
    (tmp_path / "members.part").write_bytes(b"half")
    assert unpacked(build(tmp_path / "a.zip")) == FILES
    assert not (tmp_path / "members.part").exists()


def test_a_killed_unpacking_is_taken_up_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    files = {f"{n}.bin": NOISE[n : n + 30_000] for n in range(1500)}
    archive, rng = build(tmp_path / "a.zip", files, zipfile.ZIP_STORED), random.Random(11)
    code = "import sys; from pathlib import Path; from stcln.data.fetch.archives import unpack; "
    code += "from stcln.events import Silent; print('.', flush=True); unpack(*map(Path, sys.argv[1:]), Silent())"
    interrupted = 0
    for _ in range(4):
        command = [sys.executable, "-c", code, str(archive), str(tmp_path / "members")]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.uniform(0, 0.08))
            process.send_signal(signal.SIGKILL)
        there = held(tmp_path / "members") if (tmp_path / "members").exists() else {}
        assert all(files[name] == body for name, body in there.items())
        interrupted += len(there) < len(files)
    assert interrupted
    assert unpacked(archive) == files


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_archive_gives_its_files_or_one_sentence(tmp_path: Path, name: str) -> None:
    whole = build(tmp_path / name).read_bytes()
    refused = 0
    for seed in range(250):
        home = tmp_path / str(seed) / "home"
        home.mkdir(parents=True)
        (home / name).write_bytes(damage(whole, random.Random(seed)))
        try:
            assert unpacked(home / name) == FILES, seed
        except BadInput as error:
            refused += 1
            assert str(home / name) in str(error), seed
        assert {path.name for path in home.iterdir()} <= {name, "members", "members.part"}, seed
        assert list(home.parent.iterdir()) == [home], seed
    assert refused > 150


def zipped(*members: tuple[zipfile.ZipInfo | str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        for member, body in members:
            packed.writestr(member, body)
    return stream.getvalue()


def tarred(*members: tarfile.TarInfo, mode: str = "w:gz") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    return stream.getvalue()


def of_mode(mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo("member")
    entry.external_attr = (mode | 0o666) << 16
    return entry


def of_type(kind: bytes, size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo("member")
    member.type, member.linkname, member.size = kind, "/etc/passwd", size
    return member


def changed(body: bytes, field: int, form: str, value: int, magic: bytes = b"PK\1\2") -> bytes:
    """A zip whose first directory entry says something else."""
    found = bytearray(body)
    struct.pack_into(form, found, found.index(magic) + field, value)
    return bytes(found)


def overlapping() -> bytes:
    """Two directory entries for the same bytes, as the bombs have them that unpack to more than any one member."""
    body = zipped(("a", NOISE[:5000]), ("b", NOISE[:5000]))
    second = body.index(b"PK\1\2", body.index(b"PK\1\2") + 4)
    found = bytearray(body)
    struct.pack_into("<L", found, second + 42, 10)
    return bytes(found)


def without_end() -> bytes:
    return tarred(tarfile.TarInfo("a"), tarfile.TarInfo("b"), mode="w")[: 2 * tarfile.BLOCKSIZE]


NAMES = ["../out", "a/../../out", "/out", "C:/out", "a\\..\\..\\out", "..", "./../out"]
ONE = zipped(("a", NOISE[:100]))
HOSTILE: dict[str, tuple[str, Callable[[], bytes], str]] = {
    **{f"zip: {name}": ("a.zip", lambda name=name: zipped((name, b"x")), "would leave") for name in NAMES},
    **{f"tar: {name}": ("a.tgz", lambda name=name: tarred(tarfile.TarInfo(name)), "would leave") for name in NAMES},
    "zip: symbolic link": ("a.zip", lambda: zipped((of_mode(stat.S_IFLNK), b"/etc/passwd")), "is a link"),
    "zip: device": ("a.zip", lambda: zipped((of_mode(stat.S_IFBLK), b"")), "is a link or a device"),
    "tar: symbolic link": ("a.tar.gz", lambda: tarred(of_type(tarfile.SYMTYPE)), "is a link"),
    "tar: hard link": ("a.tar.gz", lambda: tarred(of_type(tarfile.LNKTYPE)), "is a link"),
    "tar: device": ("a.tar.gz", lambda: tarred(of_type(tarfile.CHRTYPE)), "is a link or a device"),
    "tar: pipe": ("a.tar.gz", lambda: tarred(of_type(tarfile.FIFOTYPE)), "is a link or a device"),
    "zip: twice": ("a.zip", lambda: zipped(("a", b"1"), ("./a", b"2")), "twice"),
    "zip: file and directory": ("a.zip", lambda: zipped(("a", b"1"), ("a/b", b"2")), "twice"),
    "zip: directory and file": ("a.zip", lambda: zipped(("a/b", b"1"), ("a", b"2")), "twice"),
    "tar: twice": ("a.tgz", lambda: tarred(tarfile.TarInfo("a"), tarfile.TarInfo("a")), "twice"),
    "zip: overlapping": ("a.zip", overlapping, "overlaps|not a sound"),
    "zip: encrypted": ("a.zip", lambda: changed(ONE, 8, "<H", 1), "encrypted"),
    "zip: longer than it is": ("a.zip", lambda: changed(ONE, 24, "<L", 200), "not a sound archive"),
    "zip: shorter than it is": ("a.zip", lambda: changed(ONE, 24, "<L", 50), "not a sound archive"),
    "zip: fewer than announced": ("a.zip", lambda: changed(ONE, 10, "<H", 2, b"PK\5\6"), "2 were announced"),
    "zip: bomb": ("a.zip", lambda: zipped(("a", bytes(40 << 20))), "times its size"),
    "zip: bomb in words": ("a.zip", lambda: changed(ONE, 24, "<L", 1 << 30), "times its size"),
    "tar: bomb": ("a.tar.gz", lambda: tarred(of_type(tarfile.REGTYPE, 40 << 20)), "times its size"),
    "tar: without end": ("a.tar", without_end, "ends too early"),
    "empty": ("a.zip", lambda: b"", "not a sound archive"),
    "empty tar": ("a.tar", lambda: b"", "not a sound archive"),
    "not even packed": ("a.tar.gz", lambda: NOISE, "not a sound archive"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_refused_and_nothing_is_written_outside(tmp_path: Path, case: str) -> None:
    name, make, words = HOSTILE[case]
    home = tmp_path / "home"
    home.mkdir()
    (home / name).write_bytes(make())
    with pytest.raises(BadInput, match=words):
        unpacked(home / name)
    assert {path.name for path in home.iterdir()} <= {name, "members", "members.part"}
    assert list(tmp_path.iterdir()) == [home]
    assert not any(path.is_symlink() for path in home.rglob("*"))


def test_a_zip_is_looked_at_whole_before_its_first_member_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(("fine", b"fine"), ("../out", b"out")))
    with pytest.raises(BadInput, match="would leave"):
        unpacked(tmp_path / "a.zip")
    assert not held(tmp_path / "members")


def test_members_beyond_four_gigabytes_are_found(tmp_path: Path) -> None:
    with (tmp_path / "a.zip").open("wb") as stream:
        stream.seek((1 << 32) + 12345)  # a hole: takes no space on the disk
        with zipfile.ZipFile(stream, "w") as packed:
            for name, body in FILES.items():
                packed.writestr(name, body)
    assert unpacked(tmp_path / "a.zip") == FILES


def test_more_members_than_the_old_directory_counts_are_all_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 4)  # what a zip64 is written from
    build(tmp_path / "a.zip")
    assert b"PK\6\6" in (tmp_path / "a.zip").read_bytes()
    assert unpacked(tmp_path / "a.zip") == FILES


def test_a_disk_that_is_too_small_is_said_before_the_first_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def small(space: int, where: Path) -> None:
        if space > 20_000:
            raise BadInput(where, f"{space} needed", "free space")

    build(tmp_path / "a.zip")
    monkeypatch.setattr(archives, "need", small)
    with pytest.raises(BadInput, match=f"{sum(map(len, FILES.values()))} needed"):
        unpacked(tmp_path / "a.zip")
    assert not held(tmp_path / "members")


def test_two_archives_come_together_unless_both_hold_a_name(tmp_path: Path) -> None:
    for name in "ab":
        build(tmp_path / f"{name}.zip", {f"both/{name}": name.encode()})
        unpack(tmp_path / f"{name}.zip", tmp_path / f"{name}.members", Silent())
        merge(tmp_path / f"{name}.members", tmp_path / "raw", name)
    assert held(tmp_path / "raw") == {"both/a": b"a", "both/b": b"b"}
    assert (tmp_path / "raw/both/a").samefile(tmp_path / "a.members/both/a")
    with pytest.raises(BadInput, match="holds the same name"):
        merge(tmp_path / "a.members", tmp_path / "raw", "a.zip")
