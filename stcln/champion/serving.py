"""Putting a model into models/champion, so that directory, champion.dvc and champions.yaml agree.

The history is written first and alone decides. A process killed after that leaves a directory or a champion.dvc of
before; `settle` brings both to what the history says. Readers see the old model whole or the new one whole.
"""

import subprocess
from collections.abc import Callable
from pathlib import Path

import yaml

from stcln import storage
from stcln.champion import history
from stcln.champion.history import Entry
from stcln.errors import BadInput
from stcln.workspace import Workspace

POINTER = "champion.dvc"
HERE = "nothing is committed in the checkout of stcln itself"
SOMEBODY = ("-c", "user.name=stcln", "-c", "user.email=stcln@localhost")

Restore = Callable[[str, Path], None]
"""Puts the bytes of a version into an empty directory; raises BadInput where they are gone."""


def serve(workspace: Workspace, entry: Entry, bring: Callable[[Path], None]) -> None:
    """Record a decision and serve its model.

    Args:
        workspace: Where.
        entry: The decision.
        bring: Puts the model's files into an empty directory.

    Raises:
        BadInput: What it brought is not the entry's version; nothing is recorded.
    """
    with storage.whole_directory(workspace.champion) as directory:
        bring(directory)
        if (found := storage.digest(directory)) != entry.version:
            problem = f"version {found} in place of {entry.version}"
            raise BadInput(workspace.champion, problem, "`dvc checkout`, and run it again")
        history.write(workspace, (*history.read(workspace), entry))
        _point(workspace, entry.version, directory)


def settle(workspace: Workspace, restore: Restore) -> bool:
    """Finish a decision that was broken off, or undo what was changed by hand; whether there was anything to do.

    Raises:
        BadInput: The bytes of the version that is to be served are gone.
    """
    past = history.read(workspace)
    if not past:
        return False
    version, home = past[-1].version, workspace.champion
    if moved := not home.is_dir() or storage.digest(home) != version:
        with storage.whole_directory(home) as directory:
            restore(version, directory)
    return _point(workspace, version, home) or moved


def _point(workspace: Workspace, version: str, files: Path) -> bool:
    """Write champion.dvc for a version whose files lie in a directory; whether it said something else before."""
    sizes = [path.stat().st_size for path in files.rglob("*") if path.is_file()]
    out = {"hash": "md5", "md5": version, "nfiles": len(sizes), "path": "models/champion", "size": sum(sizes)}
    pointer, text = workspace.root / POINTER, yaml.safe_dump({"outs": [out]})
    if pointer.exists() and pointer.read_text() == text:
        return False
    storage.write_text(pointer, text)
    return True


def revision(workspace: Workspace, message: str) -> str:
    """Commit champion.dvc and champions.yaml, these two alone, where git can; says what was done or why not."""
    root, files = workspace.root, (POINTER, history.path_of(workspace).name)
    if not (root / "code.yaml").exists():
        return _left(files, HERE)
    if _git(root, "rev-parse", "--git-dir")[0]:
        return _left(files, "the workspace is no git repository")
    if not _git(root, "status", "--porcelain", "--", *files)[1]:
        return "git has it already"
    somebody = () if identity(root) else SOMEBODY  # in a container git knows nobody
    for words in (("add", "--", *files), ("commit", "--quiet", "--only", "-m", message, "--", *files)):
        status, said = _git(root, *somebody, *words)
        if status:
            return _left(files, " ".join(said.split()))
    return f"committed as {_git(root, 'rev-parse', '--short', 'HEAD')[1]}"


def identity(root: Path) -> str | None:
    """Who git says is at work: `Name <address>`."""
    (absent, name), (no_address, address) = (_git(root, "config", field) for field in ("user.name", "user.email"))
    return None if absent or no_address else f"{name} <{address}>"


def _left(files: tuple[str, ...], why: str) -> str:
    return f"not committed, {why}: commit {' and '.join(files)} yourself"


def _git(root: Path, *words: str) -> tuple[int, str]:
    """Exit status and what git said; a status also where there is no git."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return 127, "there is no git"
    return done.returncode, (done.stdout or done.stderr).strip()
