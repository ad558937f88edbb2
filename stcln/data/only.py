"""A trial: which tiles `dataset.only` takes, by the layout's own lists. Fetch and the readers ask here, and agree.

How files are brought is fetch's business, and how tiles are read the readers'.
"""

import re
from collections import Counter
from collections.abc import Mapping, Set
from datetime import date
from typing import Any

from pydantic import ValidationError

from stcln.data.readers.pastis_files import is_of_season, middle
from stcln.errors import BadInput
from stcln.study import Only

GRAMMAR = "write fold=5,limit=20 or tiles=10000,10001, or all"


def narrow(only: Only, splits: Mapping[str, str], stored: Set[str]) -> tuple[dict[str, str], set[str]]:
    """What a trial takes of a season's tiles, or all if it is none; what it leaves out is neither absent nor rejected.

    A tile is taken if it is named in `tiles` and in a list of `fold`, where these are set. `limit` then takes, by id
    from the front (shorter ids first), every tile that the archive holds and that is among the first `limit` of one of
    its splits: ids that are listed but absent, as the public MTLCC has many, do not use it up.

    Args:
        only: The study's `dataset.only`.
        splits: Native splits by id, as `Tile.split` has them: all that is listed of the season, in any order.
        stored: Ids that the archive holds of the season, listed or not.

    Returns:
        Both, narrowed; the first in the order given. An id that is only in the first is absent.
    """
    if only == Only():
        return dict(splits), set(stored)
    names = _lists(only.fold)
    counted = {
        tile: [name for name in split.split() if not names or name in names]
        for tile, split in splits.items()
        if not only.tiles or tile in only.tiles
    }
    taken = {tile for tile, lists in counted.items() if lists}
    if only.limit is not None:
        taken = _first(only.limit, {tile: counted[tile] for tile in sorted(taken & stored, key=natural)})
    return {tile: split for tile, split in splits.items() if tile in taken}, taken & stored


def listed_tiles(lists: Mapping[str, str]) -> dict[str, str]:
    """MTLCC's native splits by id.

    Args:
        lists: The text of every tileids/<split>.tileids, by split.
    """
    found: dict[str, list[str]] = {}
    for name in sorted(lists):
        for tile in dict.fromkeys(lists[name].split()):
            found.setdefault(tile, []).append(name)
    return {tile: " ".join(names) for tile, names in found.items()}


def listed_patches(document: Any, start: date) -> dict[str, str]:
    """PASTIS' native split by id, of the patches of the season that begins on `start`.

    Args:
        document: The content of metadata.geojson.
        start: `Dataset.start` of the season.

    Raises:
        AttributeError, KeyError, TypeError: It is not such a document.
        BadInput: A patch's dates are none.
    """
    found = {}
    for properties in (feature["properties"] for feature in document["features"]):
        if is_of_season(middle("metadata.geojson", properties), start):
            found[str(properties["ID_PATCH"])] = f"fold_{properties['Fold']}"
    return found


def parse(text: str) -> Only:
    """The words of `--only`: `fold=5,limit=20`, `tiles=10000,10001`, or `all` for no trial.

    Raises:
        BadInput: Another key, no value, or a value out of range.
    """
    if text == "all":
        return Only()
    found: dict[str, str | list[str]] = {}
    for part in re.split(",(?=[a-z]+=)", text):
        key, _, value = part.partition("=")
        if not value or key in found or key not in Only.model_fields:
            raise BadInput("--only", f"{part!r} {'is there twice' if key in found else 'is not understood'}", GRAMMAR)
        found[key] = [name.strip() for name in value.split(",")] if key == "tiles" else value
    try:
        return Only.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise BadInput("--only", f"{first['loc'][0]}={first['input']}: {first['msg']}", GRAMMAR) from None


def words(only: Only) -> str:
    """What `parse` would make into this trial again."""
    found = only.model_dump(exclude_defaults=True)
    return ",".join(f"{key}={','.join(value) if key == 'tiles' else value}" for key, value in found.items()) or "all"


def _lists(fold: int | None) -> set[str]:
    """The native splits that a fold stands for, of all layouts; MTLCC's `eval` is the test set of every fold."""
    return set() if fold is None else {f"fold_{fold}", f"train_fold{fold}", f"test_fold{fold}", "eval"}


def _first(limit: int, lists: Mapping[str, list[str]]) -> set[str]:
    """The tiles, in the order given, that are among the first of one of their lists."""
    taken, count = set(), Counter[str]()
    for tile, names in lists.items():
        if any(count[name] < limit for name in names):
            taken.add(tile)
            count.update(names)
    return taken


def natural(name: str) -> tuple[int, str]:
    """Sorts ids as numbers are, shorter ones first."""
    return len(name), name
