"""The step's end of what it tells Dagster by the remote, as objects; for `messages`, Dagster's end."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

from dagster_pipes import (
    PipesBlobStoreMessageWriter,
    PipesBlobStoreMessageWriterChannel,
    PipesDefaultMessageWriter,
    PipesMessageWriter,
    PipesMessageWriterChannel,
    PipesParams,
)
from dvc.fs import get_cloud_fs

from orchestration.remote.store import FOLDER


class Folder:
    """A folder of messages in a remote.

    Args:
        remote: What a step is told of the remote's section in .dvc/config.
        name: The folder's.
    """

    def __init__(self, remote: dict[str, str], name: str) -> None:
        kind, config, path = get_cloud_fs({}, **remote)
        self.system: Any = kind(**config)
        self.path = self.system.join(path, FOLDER, "messages", name)

    def file(self, index: int) -> str:
        """Where the messages of an index lie."""
        return str(self.system.join(self.path, f"{index}.json"))


class Writer(PipesMessageWriter[PipesMessageWriterChannel]):
    """Tells Dagster by the remote where it listens there, else as any step does."""

    @contextmanager
    def open(self, params: PipesParams) -> Iterator[PipesMessageWriterChannel]:
        """The channel that the reader's parameters ask for."""
        writer: PipesMessageWriter[Any] = _ToRemote(interval=2) if "folder" in params else PipesDefaultMessageWriter()
        with writer.open(params) as channel:
            yield channel


class _ToRemote(PipesBlobStoreMessageWriter["_Channel"]):
    def make_channel(self, params: PipesParams) -> "_Channel":
        return _Channel(Folder(params["remote"], params["folder"]), self.interval)


class _Channel(PipesBlobStoreMessageWriterChannel):
    def __init__(self, folder: Folder, interval: float) -> None:
        super().__init__(interval=interval)
        self.folder = folder

    def upload_messages_chunk(self, payload: StringIO, index: int) -> None:
        self.folder.system.pipe_file(self.folder.file(index), payload.read().encode())
