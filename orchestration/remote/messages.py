"""Dagster's end of what a step tells by the remote, so that the two need see nothing else in common."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.pipes.context import PipesMessageHandler
from dagster._core.pipes.utils import PipesBlobStoreMessageReader
from dagster_pipes import PipesParams

from orchestration.remote.line import Folder
from orchestration.remote.order import told_of
from orchestration.runners.pipes import Told
from orchestration.turns import in_turn


class ByRemote(Told, PipesBlobStoreMessageReader):
    """Reads a step's messages from the workspace's DVC remote; in the end they are removed.

    Args:
        root: The workspace.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(interval=1)
        self.root = root

    @contextmanager
    def read_messages(self, handler: PipesMessageHandler) -> Iterator[PipesParams]:
        """Read what comes."""
        self.kept = handler
        with super().read_messages(handler) as params:
            yield params

    @contextmanager
    def get_params(self) -> Iterator[PipesParams]:
        """What tells the step where to write."""
        params: dict[str, Any] = {"remote": in_turn(self.root, told_of), "folder": uuid.uuid4().hex}
        self.folder = Folder(params["remote"], params["folder"])
        yield params
        with suppress(Exception):  # as many kinds as there are remotes; what is left is small
            self.folder.system.rm(self.folder.path, recursive=True)

    def messages_are_readable(self, params: PipesParams) -> bool:
        """They are when they come."""
        return True

    def download_messages_chunk(self, index: int, params: PipesParams) -> str | None:
        """The next messages, if they are there; a remote that is away is asked again."""
        try:
            return bytes(self.folder.system.cat_file(self.folder.file(index))).decode()
        except FileNotFoundError:
            return None
        except Exception as error:
            dg.get_dagster_logger("stcln").debug(f"no messages from the remote: {error}")
            return None

    def no_messages_debug_text(self) -> str:
        """What Dagster adds to its warning that no message came."""
        return "They were looked for in the DVC remote."
