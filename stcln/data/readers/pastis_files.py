"""The files of a PASTIS tree: arrays in .npy, and what metadata.geojson says of a patch. No reader by itself."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.readers.reading import SPAN
from stcln.errors import BadInput

if TYPE_CHECKING:
    from upath import UPath

AGAIN = "fetch the archive again"
BROKEN = (ValueError, EOFError, MemoryError, SyntaxError, TokenError)
"""What numpy raises at a file that is cut off or damaged; the header is parsed as Python."""
EPOCH = date(1970, 1, 1).toordinal()
KINDS = {"iu": "integers", "iuf": "numbers"}


def load(path: "Path | UPath", kinds: str, remedy: str) -> NDArray[Any]:
    """An array of a .npy file.

    Args:
        path: The file.
        kinds: Letters of the numpy kinds it may hold, a key of `KINDS`.
        remedy: Against another kind.

    Raises:
        BadInput: It is missing, cut off, or of another kind.
    """
    try:
        with path.open("rb") as stream:
            array: NDArray[Any] = np.load(stream, allow_pickle=False)
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", AGAIN) from None
    except BROKEN as error:
        raise BadInput(path, f"not a whole .npy file: {error}", AGAIN) from None
    if array.dtype.kind not in kinds:
        nan = " and NaN" if array.dtype.kind == "f" and np.isnan(array).any() else ""
        raise BadInput(path, f"holds {array.dtype}, not {KINDS[kinds]}{nan}", remedy)
    return array


def days(where: str, properties: Mapping[str, Any], field: str) -> NDArray[np.datetime64]:
    """Dates of a patch in the order of its images, datetime64[D] [T]; the field is an object or the JSON text of one.

    Args:
        where: The file, for messages.
        properties: Of the patch.
        field: `dates-S2`, `dates-S1A` or `dates-S1D`; a patch without it has no dates.

    Raises:
        BadInput: They are not dates.
    """
    found = properties.get(field, {})
    try:
        found = json.loads(found) if isinstance(found, str) else found
        listed = [_day(found[key]) for key in sorted(found, key=int)]
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        problem = f"{field} of patch {properties.get('ID_PATCH')} are not dates: {error}"
        raise BadInput(where, problem, "mend metadata.geojson") from None
    return np.array(listed, "datetime64[D]")


def middle(where: str, properties: Mapping[str, Any]) -> "np.datetime64 | None":
    """The median day of a patch's optical images, the later one of two; none if it has no images.

    Raises:
        BadInput: Its dates are not dates.
    """
    found = np.sort(days(where, properties, "dates-S2"))
    return found[len(found) // 2] if len(found) else None


def is_of_season(day: "np.datetime64 | None", start: date) -> bool:
    """Whether a patch of this median day is of the season that begins on `start`: the day lies in the season's span."""
    begin = np.datetime64(start)
    return day is not None and bool(begin <= day < begin + SPAN)


def _day(value: object) -> int:
    """Days since 1970 of YYYYMMDD; numpy makes dates of such in a hundredth of the time that `date` takes it."""
    try:
        number = int(str(value))
        return date(number // 10_000, number // 100 % 100, number % 100).toordinal() - EPOCH
    except ValueError:
        raise ValueError(f"{value!r} is not YYYYMMDD") from None


def transform(coordinates: Any, side: int) -> tuple[float, float, float, float, float, float]:
    """Affine coefficients from a patch's polygon: its corners nearest to north-west, north-east and south-west.

    Args:
        coordinates: Of a MultiPolygon.
        side: Of the patch, pixels.

    Raises:
        TypeError, ValueError: They are no such polygon, or not finite.
    """
    corners = np.array([point[:2] for polygon in coordinates for ring in polygon for point in ring], np.float64)
    if not np.isfinite(corners).all():
        raise ValueError(f"a corner of the polygon is {corners[~np.isfinite(corners)][0]}")
    x, y = corners.T
    (x0, y0), (x1, y1), (x2, y2) = (corners[i] for i in (np.argmax(y - x), np.argmax(x + y), np.argmin(x + y)))
    a, b, d, e = (x1 - x0) / side, (x2 - x0) / side, (y1 - y0) / side, (y2 - y0) / side
    return float(a), float(b), float(x0), float(d), float(e), float(y0)
