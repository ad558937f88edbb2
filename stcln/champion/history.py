"""champions.yaml: one entry a decision about what is served, oldest first. The last one says what is served now.

It is in git, beside champion.dvc, which tells DVC the same version.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from stcln.errors import BadInput
from stcln.storage import write_text
from stcln.workspace import Workspace

HEADER = (
    "# What is served and was served: one entry a decision, the last one holds. Written by promotion and rollback.\n"
)
REMEDY = "restore it with `git checkout`, or mend it by hand"

Version = Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.dir$")]
"""DVC's md5 of the served directory."""


class Score(BaseModel):
    """mIoU of a season: mean and standard deviation over the seeds of the cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: float
    sd: float | None
    n: int


class Entry(BaseModel):
    """A decision about what is served."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    decision: Literal["promotion", "rollback"]
    version: Version
    cell: str
    """`2018-full-pretrained`."""
    seed: int
    when: str
    """UTC, ISO 8601."""
    who: str
    why: str
    forced: bool = False
    """Whether a person overruled the comparison."""
    before: Version | None
    """What was served before; none for the first."""
    scores: dict[str, Score]
    """By agreed season."""
    compared: tuple[str, ...]
    """What was looked at and found, a line each."""


def path_of(workspace: Workspace) -> Path:
    """The file."""
    return workspace.root / "champions.yaml"


def read(workspace: Workspace) -> tuple[Entry, ...]:
    """All decisions, oldest first; none where no model was ever promoted.

    Raises:
        BadInput: The file is broken, or missing although champion.dvc stands.
    """
    path = path_of(workspace)
    if not path.exists():
        if (pointer := workspace.root / "champion.dvc").exists():
            raise BadInput(path, f"missing, though {pointer.name} says that a champion is served", REMEDY)
        return ()
    try:
        return TypeAdapter(tuple[Entry, ...]).validate_python(tuple(yaml.safe_load(path.read_text()) or ()))
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:
        raise BadInput(path, f"not a list of decisions: {' '.join(str(error).split())}", REMEDY) from None
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadInput(f"{path}, field {field}", first["msg"], REMEDY) from None


def write(workspace: Workspace, entries: tuple[Entry, ...]) -> None:
    """Write all decisions, whole or not at all."""
    values = [entry.model_dump(mode="json") for entry in entries]
    write_text(path_of(workspace), HEADER + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120))
