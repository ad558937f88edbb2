"""Changes params.yaml as a careful person would: one section, and nothing else in the file."""

import os
import re
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stcln.errors import BadInput
from stcln.study import load_study


def change(path: Path, section: str, by: Callable[[Any], Any]) -> None:
    """Change a top-level section of a params.yaml, whole or not at all; comments and the other sections stay.

    Where params.yaml is a link to a study, the study is changed and the link stays.

    Args:
        path: The file.
        section: The section's key; one that is not there begins as an empty mapping at the end.
        by: Changes the section's value in place.

    Raises:
        BadInput: The section cannot be read by itself, or the study would not be valid; the file is as it was.
    """
    path = path.resolve()
    text = path.read_text()
    begin, end = _section(text, section)
    yaml = YAML()
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    try:
        found = yaml.load(text[begin:end]) or {section: {}}
    except YAMLError as error:
        problem = f"not YAML by itself: {' '.join(str(error).split())}"
        raise BadInput(f"{path}, field {section}", problem, "write it without references to other sections") from None
    by(found[section])
    out = StringIO()
    yaml.dump(found, out)
    before = text[:begin] if not begin or text[:begin].endswith("\n") else text[:begin] + "\n"
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(before + out.getvalue() + text[end:])
        load_study(part)
        part.replace(path)
    except BadInput as error:
        raise BadInput(error.where.replace(str(part), str(path)), error.problem, error.remedy) from None
    finally:
        part.unlink(missing_ok=True)


def _section(text: str, section: str) -> tuple[int, int]:
    """Where a top-level section stands in a text: from its key to its last line; a comment after that is the next's."""
    lines = r"(?:(?:[ \t]*(?:#.*)?\n)*(?:[ \t]+[^\s#].*|-.*)(?:\n|\Z))*"
    found = re.search(rf"^{re.escape(section)}:.*\n?{lines}", text, re.MULTILINE)
    return (found.start(), found.end()) if found else (len(text), len(text))
