"""A dagster-daemon on a toy workspace, with a code location of its own, as a process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
PATHS = os.pathsep.join(map(str, (HERE.parents[1], HERE.parent, HERE)))


def environment(root: Path, home: Path) -> dict[str, str]:
    """That of each process of a workspace's Dagster."""
    return os.environ | {"STCLN_WORKSPACE": str(root), "DAGSTER_HOME": str(home), "PYTHONPATH": PATHS}


@contextmanager
def daemon(root: Path, home: Path, location: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon for the length of the block, its words in the workspace's `daemon.log`.

    Args:
        root: The workspace.
        home: Dagster's directory.
        location: A file whose `location` gives the definitions.
    """
    command = ["-m", "dagster._daemon", "run", "-f", str(location), "-a", "location"]
    with (root / "daemon.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=root, env=environment(root, home), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)
