"""Trials: a few tiles of an archive, at the price of these tiles."""

import json
import random
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
import yaml
from damaged import damage
from hypothesis import given
from hypothesis import strategies as st
from patches import PARTS, STUDIES, held, pastis, study, trial_of

from stcln.cli import run_verb
from stcln.data.fetch import fetch, line, remote_zip
from stcln.data.fetch.line import Line
from stcln.data.fetch.sources import Remote
from stcln.data.fetch.trials import bring, choose
from stcln.data.only import narrow, parse, words
from stcln.data.simulate import archive as simulate
from stcln.errors import BadInput
from stcln.events import Silent
from stcln.study import Only, load_study
from stcln.workspace import Workspace

SPLITS = {str(n): f"fold_{n % 3}" for n in range(1, 31)}
STORED = {str(n) for n in range(1, 31)}
Make = Callable[..., Workspace]


class Ranges(ThreadingHTTPServer):
    """Serves one file by ranges, and counts requests and the bytes of their answers."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.path, self.sent, self.ranges = path, 0, True
        self.asked: list[str] = []
        self.breaks = 0
        self.together: threading.Barrier | None = None
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        """The client may go as it likes."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{self.path.name}"


class Handler(BaseHTTPRequestHandler):
    server: Ranges
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        size, wanted = self.server.path.stat().st_size, self.headers.get("Range", "")
        self.server.asked.append(wanted)
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted) if self.server.ranges else None
        start, end = (int(found[1]), min(int(found[2] or size), size - 1) + 1) if found else (0, size)
        if self.server.together and end - start > 15_000:  # an image, not the directory
            self.server.together.wait(5)
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(end - start))
        self.send_header("ETag", '"generated"')
        if found:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.end_headers()
        if self.server.breaks and end - start > 1000:
            self.server.breaks -= 1
            self.close_connection = True
            end = (start + end) // 2
        with self.server.path.open("rb") as stream:
            stream.seek(start)
            while start < end and (piece := stream.read(min(1 << 16, end - start))):
                self.wfile.write(piece)
                self.server.sent += len(piece)
                start += len(piece)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def serve() -> Iterator["Serve"]:
    servers = []

    def start(path: Path) -> Ranges:
        servers.append(Ranges(path))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


Serve = Callable[[Path], Ranges]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Workspace]:
    """A function: a workspace of the PASTIS study with another source and `dataset.only`."""

    def workspace(source: str, only: dict[str, object]) -> Workspace:
        params = yaml.safe_load((STUDIES / "pastis.yaml").read_text()) | {"pinned": {}}
        params["dataset"] |= {"source": source, "only": only, "files": []}
        root = tmp_path / "work"
        root.mkdir(exist_ok=True)
        (root / "params.yaml").write_text(yaml.safe_dump(params))
        return Workspace(root)

    return workspace


def refused(workspace: Workspace, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        fetch(workspace, Silent())
    assert not workspace.raw.exists()


def test_twenty_patches_cost_their_bytes_and_the_directory(serve: Serve, tmp_path: Path) -> None:
    """Of a zip64 whose members begin beyond 5 GiB; a hole takes no space on the disk."""
    archive = tmp_path / "PASTIS.zip"
    files, server = pastis(archive, 2000, start=5 << 30), serve(archive)
    left = bring(study("pastis", {"fold": 5, "limit": 20}), [Remote("a.zip", server.url)], tmp_path / "members", Line())
    wanted = trial_of(files, range(10004, 10104, 5))
    assert held(tmp_path / "members") == wanted and not left
    with zipfile.ZipFile(archive) as packed:
        directory = archive.stat().st_size - packed.start_dir
        members = sum(packed.getinfo(name).compress_size for name in wanted)
    assert directory + members < server.sent < 1.02 * (directory + members)
    assert len(server.asked) < 20 + 10


def test_a_trial_that_grows_asks_for_what_is_new_only(serve: Serve, tmp_path: Path) -> None:
    files, server = pastis(tmp_path / "PASTIS.zip", 50), serve(tmp_path / "PASTIS.zip")
    for limit, most in ((6, 150_000), (7, 50_000), (7, 30_000), (2, 30_000)):
        before = server.sent
        remotes = [Remote("a.zip", server.url)]
        bring(study("pastis", {"fold": 1, "limit": limit}), remotes, tmp_path / "members", Line())
        assert held(tmp_path / "members") == trial_of(files, range(10000, 10000 + 5 * limit, 5))
        assert server.sent - before < most


def test_a_line_that_breaks_is_taken_up_within_a_member(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line, "FACTOR", 0.0)
    monkeypatch.setattr(remote_zip, "PIECE", 7000)  # of the 20,000 bytes of an image
    files, server = pastis(tmp_path / "PASTIS.zip", 50), serve(tmp_path / "PASTIS.zip")
    server.breaks = 12
    bring(study("pastis", {"limit": 2}), [Remote("a.zip", server.url)], tmp_path / "members", Line())
    assert held(tmp_path / "members") == trial_of(files, range(10000, 10010))
    assert not server.breaks


def test_four_members_come_at_once(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers when four ask."""
    monkeypatch.setattr(line, "FACTOR", 0.0)
    pastis(tmp_path / "PASTIS.zip", 40)
    server = serve(tmp_path / "PASTIS.zip")
    server.together = threading.Barrier(4)
    trial = study("pastis", {"tiles": range(10000, 10032, 8)})
    bring(trial, [Remote("a.zip", server.url)], tmp_path / "members", Line())
    assert len(held(tmp_path / "members")) == 2 * 4 + 2 and not server.together.broken


def test_a_trial_leaves_what_a_broken_off_full_fetch_has_in_hand(serve: Serve, make: Make, tmp_path: Path) -> None:
    pastis(tmp_path / "PASTIS.zip", 40)
    workspace = make(serve(tmp_path / "PASTIS.zip").url, {"tiles": ["10003"]})
    left = {f"{kind}/of-the-full": kind.encode() for kind in ("parts", "journals", "files", "unpacked/x")}
    for name, body in left.items():
        path = workspace.resume("fetch") / name
        path.parent.mkdir(parents=True)
        path.write_bytes(body)
    fetch(workspace, Silent())
    assert held(workspace.resume("fetch")) == left
    assert list(workspace.root.glob(".stcln/resume/*")) == [workspace.resume("fetch")], "the trial's own is gone"


def test_a_killed_trial_is_taken_up_where_it_was(serve: Serve, make: Make, tmp_path: Path) -> None:
    files, server = pastis(tmp_path / "PASTIS.zip", 400), serve(tmp_path / "PASTIS.zip")
    workspace, killed = make(server.url, {"fold": 1}), 0
    for more in (9, 25, 30):
        upto = len(server.asked) + more
        command = [sys.executable, "-m", "stcln", "fetch", "--workspace", str(workspace.root), "--log", "json"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
            while len(server.asked) < upto and process.poll() is None:
                time.sleep(0.001)
            process.kill()
        killed += not workspace.raw.exists()
        assert set(workspace.root.rglob("*.npy")) or more == 9
    assert killed == 3
    before = server.sent
    fetch(workspace, Silent())
    wanted = trial_of(files, range(10000, 10400, 5))
    assert {name: body for name, body in held(workspace.raw).items() if name != "lineage.json"} == wanted
    assert server.sent - before < sum(map(len, wanted.values())), "what stood was not asked for again"


def test_a_damaged_zip_at_its_source_gives_the_trial_or_one_sentence(tmp_path: Path) -> None:
    files = pastis(tmp_path / "PASTIS.zip", 30)
    whole, found = (tmp_path / "PASTIS.zip").read_bytes(), []
    for seed in range(100):
        home = tmp_path / str(seed)
        home.mkdir()
        (home / "a.zip").write_bytes(damage(whole, random.Random(seed)))
        try:
            remotes = [Remote("a.zip", (home / "a.zip").as_uri())]
            bring(study("pastis", {"fold": 2, "limit": 3}), remotes, home / "members", Line())
            found.append(held(home / "members"))
        except BadInput as error:
            assert "a.zip" in str(error)
    assert 10 < len(found) < 70
    assert all(one == trial_of(files, (10001, 10006, 10011)) for one in found)


def test_a_server_without_ranges_is_named_and_nothing_is_fetched(serve: Serve, make: Make, tmp_path: Path) -> None:
    pastis(tmp_path / "PASTIS.zip", 50, start=1 << 30)
    server = serve(tmp_path / "PASTIS.zip")
    server.ranges = False
    refused(make(server.url, {"limit": 1}), "hands out no parts of files")
    assert server.sent < 1 << 25  # what fits into the sockets between


def test_a_zip_a_directory_a_prefix_and_a_server_give_the_same_trial(serve: Serve, make: Make, tmp_path: Path) -> None:
    files = pastis(tmp_path / "PASTIS.zip", 30)
    memory = fsspec.filesystem("memory")
    for name, body in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(body)
        memory.pipe(f"/trial/{name}", body)
    url = serve(tmp_path / "PASTIS.zip").url
    for source in (url, "../PASTIS.zip", (tmp_path / "PASTIS.zip").as_uri(), "../tree", "memory://trial"):
        workspace = make(source, {"fold": 2, "limit": 3})
        fetch(workspace, Silent())
        found = {name: body for name, body in held(workspace.raw).items() if name != "lineage.json"}
        assert found == trial_of(files, (10001, 10006, 10011)), source
        assert not list(workspace.root.glob(".stcln/resume/*"))
        made = json.loads((workspace.raw / "lineage.json").read_text())["params"]["dataset.only"]
        assert made == {"tiles": [], "fold": 2, "limit": 3}
    assert (workspace.raw / "PASTIS/metadata.geojson").exists()
    memory.rm("/trial", recursive=True)


@pytest.mark.parametrize(
    ("only", "words"),
    [
        ({"tiles": [10001, 99999]}, "99999 in no list"),
        ({"fold": 7}, "takes none of the 30 tiles"),
        ({"fold": 1, "tiles": [10001]}, "takes none of the 30 tiles"),
    ],
)
def test_a_trial_that_finds_nothing_says_so(make: Make, tmp_path: Path, only: dict[str, object], words: str) -> None:
    pastis(tmp_path / "PASTIS.zip", 30)
    refused(make("../PASTIS.zip", only), words)


def test_a_tar_and_an_archive_without_lists_have_no_trial(make: Make, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "PASTIS.tar", "w"):
        pass
    refused(make("../PASTIS.tar", {"limit": 1}), "has no directory of its members")
    with zipfile.ZipFile(tmp_path / "PASTIS.zip", "w") as archive:
        archive.writestr("PASTIS/DATA_S2/S2_1.npy", b"")
    refused(make("../PASTIS.zip", {"limit": 1}), "no metadata.geojson")
    with zipfile.ZipFile(tmp_path / "PASTIS.zip", "w") as archive:
        archive.writestr("PASTIS/metadata.geojson", b"[1]")
    refused(make("../PASTIS.zip", {"limit": 1}), "not a collection of patches")


def test_a_hostile_member_of_a_remote_zip_is_refused(make: Make, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "PASTIS.zip", "w") as archive:
        archive.writestr("PASTIS/metadata.geojson", b"{}")
        archive.writestr("PASTIS/../../../out", b"out")
    refused(make("../PASTIS.zip", {"limit": 1}), "would leave the directory")


def test_a_cube_cannot_be_narrowed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has no tiles to choose from"):
        study("flanders", {"limit": 3})


def test_radar_comes_with_its_patches() -> None:
    names = [f"PASTIS/{part}_{n}.npy" for n in (1, 2) for part in (*PARTS, "DATA_S1A/S1A", "DATA_S1D/S1D")]
    document = {"features": [{"properties": {"ID_PATCH": n, "Fold": 1, "dates-S2": {"0": 20190101}}} for n in (1, 2)]}
    names += [
        "PASTIS/metadata.geojson",
        "PASTIS/NORM_S1A_patch.json",
        "PASTIS/pad.bin",
        "PASTIS/INSTANCE_ANNOTATIONS/ZONES_2.npy",
    ]
    chosen = choose(study("pastis", {"tiles": ["2"]}), names, lambda _: json.dumps(document).encode())
    assert set(chosen) == {name for name in names if "_1.npy" not in name and not re.search("ZONES|pad", name)}


@pytest.mark.parametrize(
    ("layout", "names"),
    [("mtlcc", "{folder}/{tile}.tfrecord.gz"), ("mtlcc-geotiff", "{folder}/{tile}/20160101_10m.tif")],
)
def test_seasons_of_mtlcc_count_each_for_itself(layout: str, names: str) -> None:
    lists = {"train_fold0": "1 2 3 4 5", "train_fold1": "1 5", "eval": "6 7"}
    top = "data_IJGI18/datasets/full/480"
    listed = {f"{top}/tileids/{name}.tileids": text.encode() for name, text in lists.items()}
    stored = {"data16": "1 3 4 5 6 7", "data17": "2 4 5 7", "data18": "1"}
    files = [f"{top}/{names.format(folder=folder, tile=n)}" for folder, ids in stored.items() for n in ids.split()]
    others = [
        f"{top}/classes.txt",
        f"{top}/pad.bin",
        f"{top}/data16/note.md",
        "data_IJGI18/observations.csv",
        "elsewhere/data16/1",
    ]
    trial = study("mtlcc", {"fold": 0, "limit": 1}, layout=layout)
    chosen = choose(trial, [*files, *others, *listed], listed.__getitem__)
    wanted = {"data16": (1, 6), "data17": (2, 7)}
    expected = {f"{top}/{names.format(folder=folder, tile=n)}" for folder, ids in wanted.items() for n in ids}
    assert set(chosen) == expected | listed.keys() | {f"{top}/classes.txt"}


@pytest.mark.parametrize(
    ("only", "taken"),
    [
        (Only(), set(SPLITS)),
        (Only(tiles=("3", "30", "99")), {"3", "30"}),
        (Only(fold=1), {str(n) for n in range(1, 31, 3)}),
        (Only(limit=2), {"1", "2", "3", "4", "5", "6"}),
        (Only(fold=0, limit=2), {"3", "6"}),
        (Only(tiles=("9", "12", "15", "1"), limit=2), {"9", "12", "1"}),
    ],
)
def test_what_is_set_must_all_hold_and_shorter_ids_come_first(only: Only, taken: set[str]) -> None:
    assert narrow(only, SPLITS, STORED) == ({n: split for n, split in SPLITS.items() if n in taken}, taken)


def test_absent_tiles_do_not_use_up_a_limit_and_are_told_without_one() -> None:
    stored = STORED - {"1", "2", "4"}
    assert narrow(Only(fold=1, limit=2), SPLITS, stored)[1] == {"7", "10"}
    listed, there = narrow(Only(fold=1), SPLITS, stored)
    assert listed.keys() - there == {"1", "4"}


@given(
    splits=st.dictionaries(
        st.integers(0, 40).map(str), st.lists(st.sampled_from("abc"), min_size=1, unique=True).map(" ".join)
    ),
    limit=st.integers(1, 5),
    lost=st.sets(st.integers(0, 40).map(str)),
)
def test_a_reader_takes_all_that_a_trial_has_fetched(splits: dict[str, str], limit: int, lost: set[str]) -> None:
    """The reader sees the trial's tiles only and asks the same rule again."""
    _, fetched = narrow(Only(limit=limit), splits, splits.keys() - lost)
    assert narrow(Only(limit=limit), splits, fetched) == ({n: s for n, s in splits.items() if n in fetched}, fetched)
    for name in "abc":
        there = [n for n, split in splits.items() if name in split.split() and n not in lost]
        assert len(fetched.intersection(there)) >= min(limit, len(there))


@pytest.mark.parametrize(
    ("text", "only"),
    [
        ("all", Only()),
        ("fold=5,limit=20", Only(fold=5, limit=20)),
        ("tiles=10000,10001", Only(tiles=("10000", "10001"))),
        ("tiles=a,b,limit=1", Only(tiles=("a", "b"), limit=1)),
    ],
)
def test_the_words_of_only_need_no_quotes(text: str, only: Only) -> None:
    assert parse(text) == only and words(only) == text and shlex.quote(text).strip("'") == text


@pytest.mark.parametrize(
    "text", ["", "5", "fold=", "fold=x", "fold=1,2", "fold=1,fold=2", "limit=0", "tile=3", "tiles="]
)
def test_words_that_are_not_understood_leave_the_study_as_it_is(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text((STUDIES / "pastis.yaml").read_text())
    with pytest.raises(BadInput, match="--only"):
        run_verb(["fetch", "--workspace", str(tmp_path), "--only", text], Silent())
    assert (tmp_path / "params.yaml").read_text() == (STUDIES / "pastis.yaml").read_text()


def test_only_is_written_into_the_study_and_nothing_else_changes(serve: Serve, make: Make, tmp_path: Path) -> None:
    pastis(tmp_path / "PASTIS.zip", 30)
    text = (STUDIES / "pastis.yaml").read_text()
    changes = {"zenodo:5012942": serve(tmp_path / "PASTIS.zip").url, "[PASTIS.zip]": "[]", "PASTIS.zip:": "other.zip:"}
    for old, new in changes.items():
        text = text.replace(old, new)
    root = tmp_path / "work"
    root.mkdir()
    (root / "params.yaml").write_text(text)
    run_verb(["fetch", "--workspace", str(root), "--only", "fold=5,limit=2"], Silent())
    changed = (root / "params.yaml").read_text()
    assert load_study(root / "params.yaml").dataset.only == Only(fold=5, limit=2)
    assert [line for line in text.splitlines() if line not in changed.splitlines()] == [
        line for line in text.splitlines() if "only: {}" in line
    ]
    assert len(list((root / "data/raw/PASTIS/DATA_S2").iterdir())) == 2
    run_verb(["fetch", "--workspace", str(root), "--only", "all"], Silent())
    assert load_study(root / "params.yaml").dataset.only == Only()
    assert len(list((root / "data/raw/PASTIS/DATA_S2").iterdir())) == 30


def test_a_trial_is_prepared_without_calling_the_rest_absent(serve: Serve, tmp_path: Path) -> None:
    """Simulated patches of two seasons, zipped and served: each season has its own."""
    simulate(tmp_path / "tree/PASTIS", "pastis", ["2018", "2019"], 12, 8, 3407, Silent())
    zipped = Path(shutil.make_archive(str(tmp_path / "PASTIS"), "zip", tmp_path / "tree"))
    params = yaml.safe_load((STUDIES / "own-pastis.yaml").read_text()) | {"pinned": {}}
    params["dataset"] |= {"source": serve(zipped).url, "root": "PASTIS"}
    params["cells"]["season"] = params["pretrain"]["seasons"] = [2018, 2019]
    (tmp_path / "work").mkdir()
    (tmp_path / "work/params.yaml").write_text(yaml.safe_dump(params))
    run_verb(["fetch", "--workspace", str(tmp_path / "work"), "--only", "limit=1"], Silent())
    for season in ("2018", "2019"):
        run_verb(["prepare", "--workspace", str(tmp_path / "work"), "--season", season], Silent())
        found = json.loads((tmp_path / f"work/data/seasons/{season}.zarr/validation.json").read_text())
        assert found["tiles"] == len(found["splits"]) > 1
        assert (found["absent_ids"], found["rejected_tiles"], found["trial"]) == (0, 0, {"limit": 1})
