"""dvc.lock as text, a block an entry: one is read or put in its place, the others neither parsed nor formatted.

DVC itself parses and formats the whole file again for one entry, which takes longer with every cell, and writes it over
the old one, so that a process killed meanwhile leaves a torn file. The bytes here are those that DVC would write.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc.schema import COMPILED_LOCK_FILE_STAGE_SCHEMA as SCHEMA
from dvc.utils.serialize import YAMLFileCorruptedError, dumps_yaml, loads_yaml, parse_yaml_for_update
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from stcln.errors import BadInput
from stcln.storage import synchronise, write_text

EMPTY = "schema: '2.0'\nstages:\n"
STAGES = re.compile(r"^stages:(?: \{\})?\n", re.MULTILINE)
ENTRY = re.compile(r"^  (?=[^\s#])", re.MULTILINE)
NAME = re.compile(r"""(['"]?)(.+?)\1:[ ]*\n""")
TOP = re.compile(r"^\w", re.MULTILINE)
FOREIGN = re.compile(r"^(?!\w+:|- |#)\S", re.MULTILINE)  # such as what git leaves of a conflict
REMEDY = "take it from git, or delete it: what the run-cache knows is put back without a run"


@dataclass(frozen=True)
class LockFile:
    """A dvc.lock. Whoever writes holds DVC's lock.

    Attributes:
        path: The file, which need not be there.
    """

    path: Path

    def read(self, stages: Iterable[str]) -> dict[str, Any]:
        """The entries of these stages, of those that have one. One that a killed `dvc repro` tore counts as none.

        Raises:
            BadInput: The file is not YAML, or no dvc.lock.
        """
        _, blocks, _ = self._parts()
        found = {stage: _entry(blocks[stage]) for stage in stages if stage in blocks}
        return {stage: entry for stage, entry in found.items() if entry}

    def put(self, stage: str, entry: Mapping[str, Any]) -> None:
        """Put an entry in the place of the stage's last one, or at the end; the file is written whole or not at all.

        Raises:
            BadInput: As for `read`.
        """
        head, blocks, tail = self._parts()
        text = dumps_yaml({"stages": {stage: entry}}).removeprefix("stages:\n")
        if blocks.get(stage) != text:
            write_text(self.path, head + "".join((blocks | {stage: text}).values()) + tail)
            synchronise([self.path, self.path.parent])

    def _parts(self) -> tuple[str, dict[str, str], str]:
        """What stands before the entries, the text of each, and what stands after them."""
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            if not text.strip():
                return EMPTY, {}, ""
            parts = _split(f"{text.rstrip()}\n") or _split(dumps_yaml(parse_yaml_for_update(text, self.path)))
        except (YAMLFileCorruptedError, UnicodeDecodeError):
            parts = None
        if parts is None:
            raise BadInput(self.path, "it is not as DVC writes it", REMEDY)
        return parts


def _split(text: str) -> tuple[str, dict[str, str], str] | None:
    """The parts of a file that is laid out as DVC does; None if it is not."""
    found = STAGES.search(text)
    if not found or FOREIGN.search(text):
        return None
    end = TOP.search(text, found.end())
    body, tail = (text[found.end() : end.start()], text[end.start() :]) if end else (text[found.end() :], "")
    first, *blocks = ENTRY.split(body)
    if blocks and _entry(blocks[-1]) is None:  # torn
        blocks.pop()
    names = [NAME.match(block) for block in blocks]
    entries = {name[2]: f"  {block}" for name, block in zip(names, blocks, strict=True) if name}
    if first.strip() or len(entries) < len(blocks):  # another indentation; a name that is long, or stands twice
        return None
    return f"{text[: found.start()]}stages:\n", entries, tail


def _entry(block: str) -> dict[str, Any] | None:
    """What an entry's text says; None if that is torn."""
    try:
        found = loads_yaml(block)
        return dict(SCHEMA(*found.values())) if isinstance(found, dict) else None
    except (YAMLError, Invalid, ValueError):
        return None
