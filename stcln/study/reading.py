"""Reading a YAML file into a `Part`: what is wrong with it is told by file, field and remedy."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from stcln.errors import BadInput
from stcln.study.part import Part

P = TypeVar("P", bound=Part)


class _Once(yaml.SafeLoader):
    """YAML in which no key stands twice: of two sections the later would count, silently."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping; a key that stands twice is named with its line."""
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if (name := str(key.value)) in seen:
                raise yaml.MarkedYAMLError(problem=f"{name!r} stands twice", problem_mark=key.start_mark)
            seen.add(name)
        return node


def read_part(path: Path, kind: type[P], absent: tuple[str, str], example: str) -> P:
    """Read and check a file.

    Args:
        path: The file.
        kind: What it holds.
        absent: Problem and remedy where there is no such file.
        example: Where a user finds one that is right, as a clause.

    Raises:
        BadInput: It is missing, not YAML, or a field is unknown, absent, twice there or out of range, named.
    """
    try:
        return kind.model_validate(yaml.load(path.read_text(), _Once))
    except FileNotFoundError:
        raise BadInput(path, *absent) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(path, f"not YAML: {' '.join(str(error).split())}", "mend the syntax") from None
    except ValidationError as error:
        field, message = first_fault(error, kind.__name__.lower())
        raise BadInput(f"{path}, field {field}", message, f"correct the field; {example}") from None


def first_fault(error: ValidationError, whole: str) -> tuple[str, str]:
    """The field of the first fault, or `whole`, and what is wrong with it."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or whole
    value = "" if isinstance(first.get("input"), dict) else f" (got {first.get('input')!r})"
    return field, f"{first['msg'].removeprefix('Value error, ')}{value}"
