"""The workspace's DVC remote: what it holds, tried again where it does not answer."""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, TypeVar

from dvc.repo import Repo
from dvc.utils.serialize import loads_yaml
from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from stcln.errors import BadInput, NoAnswer, refusals_of_a_server

T = TypeVar("T")
TRIES, PAUSE = 3, 10.0
"""How often in all the remote is asked that does not answer, and seconds between."""
FOLDER = "stcln"
"""In the remote, of what is not DVC's."""


class Store:
    """The default remote of a repository.

    Args:
        repo: The repository; it has a default remote.
        last: The same remote of the repository opened before: its line is used again, and what it is known to hold.
    """

    def __init__(self, repo: Repo, last: "Store | None" = None) -> None:
        self._repo = repo
        self._remote: Any = last._remote if last else repo.cloud.get_remote()
        self.url = str(self._remote.fs.unstrip_protocol(self._remote.path))
        self._held: set[str] = last._held if last else set()

    def holds(self, md5: str) -> bool:
        """Whether a directory is there: its list, which DVC sends after its files. What the cache has is sent there."""
        if md5 not in self._held and (self._is_there(md5) or self._sent(md5)):
            self._held.add(md5)
        return md5 in self._held

    def listed(self, md5: str) -> dict[str, str]:
        """The md5 of every file of a directory, by its name."""
        self.pull([md5])
        tree: Any = Tree.load(self._repo.cache.local, _info(md5))
        return {"/".join(key): info.value for key, (_, info) in tree.iteritems()}

    def pull(self, wanted: Iterable[str]) -> None:
        """Bring objects into the cache.

        Raises:
            BadInput: The remote does not have one.
            NoAnswer: It does not answer.
        """
        cache = self._repo.cache.local
        lacking = [md5 for md5 in wanted if not cache.exists(md5)]
        for attempt in range(TRIES):
            if lacking:
                self._repo.cloud.pull([_info(md5) for md5 in lacking], odb=self._remote.odb)
            lacking = [md5 for md5 in lacking if not cache.exists(md5)]
            if not lacking:
                return
            if not self._is_there(lacking[0]):
                raise BadInput(self.url, f"it has no {lacking[0]}", "`dvc push` it, or run what makes it again")
            self._wait(attempt)
        raise NoAnswer(self.url, f"it did not give {lacking[0]}", "check the line, and run it again")

    def push(self, md5: str) -> None:
        """Send a directory of the cache, the list after the files.

        Raises:
            NoAnswer: It did not take them.
        """
        objects = [_info(md5), *map(_info, self.listed(md5).values())]
        for attempt in range(TRIES):
            if not (failed := self._repo.cloud.push(objects, odb=self._remote.odb).failed):
                return
            self._wait(attempt)
        problem = f"it did not take {len(failed)} of {len(objects)} files"
        raise NoAnswer(self.url, problem, "its last lines say why; check bucket, key and line, and run it again")

    def push_runs(self) -> None:
        """Send the run-cache."""
        self._patiently(lambda: self._repo.stage_cache.push(None, odb=self._remote.legacy_odb))

    def runs(self, key: str) -> list[dict[str, Any]]:
        """The entries of the run-cache of a key, newest first."""
        system, folder = self._remote.fs, self._remote.fs.join(self._remote.path, "runs", key[:2], key)

        def read() -> list[dict[str, Any]]:
            found = [*system.find(folder)] if system.exists(folder) else []
            newest = sorted(found, key=system.modified, reverse=True) if len(found) > 1 else found
            return [loads_yaml(system.cat_file(path).decode()) for path in newest]

        return self._patiently(read)

    def put(self, name: str, content: bytes) -> None:
        """Keep something that is not DVC's."""
        self._patiently(lambda: self._remote.fs.pipe_file(self._own(name), content))

    def get(self, name: str) -> bytes | None:
        """What `put` kept under a name, if it is there."""

        def read() -> bytes | None:
            try:
                return bytes(self._remote.fs.cat_file(self._own(name)))
            except FileNotFoundError:
                return None

        return self._patiently(read)

    def forget(self, folder: str) -> None:
        """Let go what `put` kept below a name."""

        def remove() -> None:
            with suppress(FileNotFoundError):
                self._remote.fs.rm(self._own(folder), recursive=True)

        self._patiently(remove)

    def _own(self, name: str) -> str:
        return str(self._remote.fs.join(self._remote.path, FOLDER, name))

    def _is_there(self, md5: str) -> bool:
        def look() -> bool:
            try:
                self._remote.fs.info(self._remote.odb.oid_to_path(md5))
            except FileNotFoundError:
                return False
            return True

        return self._patiently(look)

    def _sent(self, md5: str) -> bool:
        """Send a directory that the cache has whole; whether it had."""
        cache = self._repo.cache.local
        whole = cache.exists(md5) and all(map(cache.exists, self.listed(md5).values()))
        if whole:
            self.push(md5)
        return whole

    def _patiently(self, ask: Callable[[], T]) -> T:
        for attempt in range(TRIES):
            try:
                with refusals_of_a_server(self.url):
                    return ask()
            except NoAnswer:
                if attempt == TRIES - 1:
                    raise
                self._wait(attempt)
        raise AssertionError

    @staticmethod
    def _wait(attempt: int) -> None:
        if attempt < TRIES - 1:
            time.sleep(PAUSE)


def _info(md5: str) -> HashInfo:
    return HashInfo("md5", md5)
