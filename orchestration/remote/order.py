"""What a step that sees no disk of Dagster's is told: its stage, and where the texts of the workspace lie.

The texts lie in the remote, an object named by its content: params.yaml, dvc.yaml, dvc.lock, and what stages read that
no stage makes, such as their code. No credentials: those a step has from its environment.
"""

import argparse
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dvc.fs import localfs
from dvc.repo import Repo

from orchestration.remote.known import Known
from orchestration.remote.store import Store
from stcln.errors import BadInput

FLAG, STAGE, UNLESS_MADE = "--order", "--stage", "--unless-made"
TEXTS = ("params.yaml", "dvc.yaml", "dvc.lock", "code.yaml", ".dvcignore")
MOST = 8 << 20
"""Bytes of texts."""
OPEN = ("url", "endpointurl", "region", "account_name", "projectname")
"""What a step is told of the remote's section in .dvc/config."""
CONFIG = """\
[core]
    analytics = false
    no_scm = true
    site_cache_dir = {place}/.dvc/tmp/site
    remote = remote
[cache]
    type = "reflink,hardlink,symlink,copy"
['remote "remote"']
"""


@dataclass(frozen=True)
class Order:
    """A stage to run elsewhere.

    Attributes:
        stage: Its name in dvc.yaml.
        remote: Where the texts and the bytes are.
        name: Of the texts in the remote.
        unless_made: Whether to run only if the run-cache has no run of the same command and inputs.
    """

    stage: str
    remote: Mapping[str, str]
    name: str
    unless_made: bool = False

    @property
    def where(self) -> str:
        """Where the texts are: the same for every stage."""
        return json.dumps({"remote": self.remote, "name": self.name})

    @property
    def words(self) -> list[str]:
        """What is added to the step's command."""
        return [STAGE, self.stage, FLAG, self.where]

    def lay(self, place: Path) -> Store:
        """Make an empty directory the workspace, of which nothing but texts is there; gives its remote.

        Raises:
            BadInput: The remote does not have the texts, or does not answer.
        """
        (place / ".dvc").mkdir()
        lines = [f"    {field} = {value}" for field, value in self.remote.items()]
        (place / ".dvc/config").write_text(CONFIG.format(place=place) + "\n".join(lines) + "\n")
        with Repo(str(place)) as repo:
            store = Store(repo)
            texts = store.get(self.name)
        if texts is None:
            raise BadInput(store.url, f"{self.name}, which says what {self.stage} reads, is gone", "run it again")
        unpack(texts, place)
        return store


def given(argv: Sequence[str]) -> tuple[list[str], Order]:
    """A step's verb and options, and its order."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(FLAG, type=json.loads, required=True)
    parser.add_argument(STAGE, required=True)
    parser.add_argument(UNLESS_MADE, action="store_true")
    found, words = parser.parse_known_args(argv)
    return words, Order(found.stage, unless_made=found.unless_made, **found.order)


def send(repo: Repo, known: Known, store: Store, stage: str) -> Order:
    """Put a workspace's texts, and what its stages read that no stage makes, into the remote.

    Raises:
        BadInput: They are no texts but data.
    """
    root = Path(str(repo.root_dir))
    paths = [root / path for path in (*map(Path, TEXTS), *sorted(known.unmade()))]
    files = [Path(file) for path in paths for file in sorted(repo.dvcignore.find(localfs, str(path)))]
    files += [path for path in paths if path.is_file()]
    texts = packed(root, files)
    if len(texts) > MOST:
        largest = max(files, key=lambda file: file.stat().st_size)
        raise BadInput(largest, "too large to be sent to every step", "let a stage make it, and DVC carry it")
    name = f"orders/{stage}/{hashlib.md5(texts).hexdigest()}"
    store.put(name, texts)
    return Order(stage, told_of(repo), name)


def told_of(repo: Repo) -> dict[str, str]:
    """What a step is told of the default remote: nothing secret."""
    section = repo.config["remote"][repo.config["core"]["remote"].lower()]
    return {field: str(section[field]) for field in OPEN if field in section}


def packed(root: Path, files: Iterable[Path]) -> bytes:
    """Files below a directory as a tar, the same bytes of the same files."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for file in files:
            entry = tarfile.TarInfo(file.relative_to(root).as_posix())
            with file.open("rb") as content:
                entry.size = os.fstat(content.fileno()).st_size  # of this file, though another may take its place
                tar.addfile(entry, content)
    return made.getvalue()


def unpack(tar: bytes, place: Path) -> None:
    """Put the files of a tar into a directory."""
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.2, Debian 12's, has none
            opened.extraction_filter = tarfile.data_filter
        opened.extractall(place)
