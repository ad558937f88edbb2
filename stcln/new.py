"""Make a workspace: a directory with a study's params.yaml, its dvc.yaml, under git and DVC."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import yaml

from stcln.errors import BadInput
from stcln.parameters import change
from stcln.runs import alone
from stcln.stages import ARCHIVE, code_yaml, dvc_yaml
from stcln.storage import UNFINISHED, write_text
from stcln.study import PACKED, Study, load_study
from stcln.workspace import PACKAGE, Workspace

GITIGNORE = """\
# DVC's, not git's.
/data/
/models/
/reports/
.stcln/
.dagster/
"""
LEFT_OUT = {"title", "seed", "simulation", "model", "finetune", "method", "compute", "drift"}
"""What of params.yaml DVC tracks and need not be written: its default is."""
SOURCE = re.compile(r"^(  source:\s*)(\S+)", re.MULTILINE)
FILES = re.compile(r"^(  files:\s*)\[.*\]", re.MULTILINE)


def studies() -> dict[str, Path]:
    """The ready studies by name: of the wheel, or of the checkout."""
    folder = next((f for f in (PACKAGE / "studies", PACKAGE.parent / "studies") if f.is_dir()), PACKAGE / "studies")
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def make(root: Path, study: str, source: str | None) -> None:
    """Make a workspace at `root`.

    Args:
        root: Directory to make; it may exist and be empty.
        study: Name of a ready study, or path of one.
        source: In place of the study's `dataset.source`; a path is kept relative to the workspace. Of a directory
            everything is taken: the names in the study are those of its own source.

    Raises:
        BadInput: No such study, the study is faulty, or the directory holds something.
    """
    path = studies().get(study, Path(study))
    if not path.is_file():
        raise BadInput(
            path, f"no study {study!r} among {list(studies())}", "name one of these or the path of a study file"
        )
    if not root.parent.is_dir():
        raise BadInput(root.parent, "no such directory", "make it, or name another place")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise BadInput(
            root, "it is not an empty directory", "name a new one, or pass --update to render its dvc.yaml again"
        )
    text = path.read_text()
    if source is not None:
        text = SOURCE.sub(lambda found: found[1] + _seen_from(root, source), text, count=1)
        itself = Path(source).exists() or source.lower().endswith(PACKED)  # not a place of the study's own files
        text = FILES.sub(r"\1[]", text, count=1) if itself else text
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(text)
    try:
        load_study(root / "params.yaml")
    except BadInput:
        shutil.rmtree(root)
        raise
    (root / ".gitignore").write_text(GITIGNORE)
    refresh(root)
    _git_and_dvc(root)


def refresh(root: Path) -> None:
    """Render dvc.yaml and code.yaml of a workspace for the installed stcln, and let DVC ignore unfinished output.

    Fields that an older params.yaml lacks are written into it: DVC tracks no field that is left out.

    Raises:
        BadInput: There is no study.
    """
    with alone(Workspace(root), "register", wait=True):  # a season may be arriving
        study = Workspace(root).study
        _write_tracked(root / "params.yaml", study)
    checkout = (root / "stcln").resolve() == PACKAGE
    (root / "dvc.yaml").write_text(dvc_yaml(study, checkout=checkout))
    _ignore_unfinished(root / ".dvcignore")
    if not checkout:
        (root / "code.yaml").write_text(code_yaml())


def _write_tracked(path: Path, study: Study) -> None:
    """Write those fields that DVC tracks and that stand at their default because nobody wrote them."""
    values = study.model_dump(mode="json")["dataset"]
    values["only"] = study.dataset.only.model_dump(mode="json", exclude_defaults=True)
    found = yaml.safe_load(path.read_text())
    written = found["dataset"]
    tracked = [field.removeprefix("dataset.") for field in ARCHIVE]
    if absent := {field: values[field] for field in tracked if field not in written}:
        change(path, "dataset", lambda dataset: dataset.update(absent))
    if "champion" not in found:
        change(path, "champion", lambda champion: champion.update(seasons=[]))
    if absent := study.model_dump(mode="json", include=LEFT_OUT - found.keys()):
        text = path.read_text().rstrip("\n")
        write_text(path.resolve(), f"{text}\n{yaml.safe_dump(absent, sort_keys=False)}")


def _ignore_unfinished(path: Path) -> None:
    """Add to .dvcignore what it lacks; `dvc init` leaves one that stands as it is."""
    lines = path.read_text().splitlines() if path.exists() else []
    if absent := [pattern for pattern in UNFINISHED if pattern not in lines]:
        path.write_text("\n".join([*lines, *absent]) + "\n")


def _seen_from(root: Path, source: str) -> str:
    """A local path as the workspace sees it, so that both can move together; a URL as it is."""
    if "://" in source or source.startswith("zenodo:") or source == "simulated":
        return source
    if not Path(source).exists():
        raise BadInput(source, "no such file or directory", "pass --source with a directory, a URL or zenodo:<record>")
    return os.path.relpath(source, root)


def _git_and_dvc(root: Path) -> None:
    """`git init` and `dvc init` where there are such programs; the study runs without them, by the verbs alone."""
    if not shutil.which("git"):
        return
    _call(root, "git", "init", "--quiet")
    if shutil.which("dvc"):
        _call(root, "dvc", "init", "--quiet")
        _call(root, "dvc", "config", "core.analytics", "false")
        _call(root, "dvc", "config", "core.autostage", "false")
    _call(root, "git", "add", "--all")


def _call(root: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BadInput(root, f"`{' '.join(command)}` failed: {done.stderr.strip()}", "mend that and run `new` again")
