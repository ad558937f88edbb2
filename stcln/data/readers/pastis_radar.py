"""The radar of a PASTIS-R tree: Sentinel-1 images of a patch by orbit, each on dates of its own."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.readers.pastis_files import AGAIN, days, load
from stcln.data.readers.reading import HIGHEST, Findings, expect, tidy
from stcln.data.tile import NODATA, ORBITS, Radar
from stcln.errors import BadInput

if TYPE_CHECKING:
    from upath import UPath

PLANES = ("VV", "VH", "VHVV")
"""Of a file, in order; the last is the ratio VH/VV. All in dB."""
SCALE = 100  # of dB


def offered(root: "Path | UPath") -> tuple[str, ...]:
    """Names of the radar bands that a tree has: `S1A_VV`, ..., none in plain PASTIS."""
    return tuple(f"{orbit}_{plane}" for orbit in ORBITS if (root / f"DATA_{orbit}").is_dir() for plane in PLANES)


def by_orbit(bands: Sequence[str]) -> dict[str, list[int]]:
    """Planes to read by orbit, of the names of radar bands."""
    found: dict[str, list[int]] = {}
    for orbit, plane in (name.split("_") for name in bands):
        found.setdefault(orbit, []).append(PLANES.index(plane))
    return found


def read_radar(
    root: "Path | UPath", properties: Mapping[str, Any], orbit: str, planes: Sequence[int], start: date, side: int,
    findings: Findings,
) -> Radar:  # fmt: skip
    """Read the images of one orbit over a patch.

    Values that are not finite become nodata, images without any value and dates outside the season's span are left
    out, the others sorted and merged by the rule of `tidy`; all of this is counted. A patch that the orbit never saw in
    the season has a series of no images.

    Args:
        root: Of the tree.
        properties: Of the patch.
        orbit: One of `tile.ORBITS`.
        planes: Indices into `PLANES`.
        start: Day 0 of the season.
        side: Of the patch, pixels.
        findings: Told what was done.

    Raises:
        BadInput: A file is missing or cut off, or a type, shape or date is wrong.
    """
    tile, of = str(properties["ID_PATCH"]), f"{orbit}: "
    path = root / f"DATA_{orbit}/{orbit}_{tile}.npy"
    dates = days(str(path), properties, f"dates-{orbit}")
    found = load(path, "iuf", "store radar in dB") if len(dates) else np.empty((0, len(PLANES), side, side), np.float32)
    if found.ndim != 4:
        raise BadInput(path, f"{found.ndim} dimensions, not T,C,H,W", AGAIN)
    expect(str(path), "the array", found.shape, (len(dates), len(PLANES), side, side))
    values = _hundredths(found if list(planes) == list(range(len(PLANES))) else found[:, planes], tile, of, findings)
    valid = (values != NODATA).any(axis=1)
    seen = valid.any(axis=(1, 2))
    findings.add(f"{of}images without a value, left out", tile, len(seen) - int(seen.sum()))
    if not seen.any():
        findings.add(f"{of}no image of the season", tile)
        return Radar(values[:0], dates[:0])
    dates, values, _ = tidy(str(path), tile, start, (dates[seen], values[seen], valid[seen]), findings, of)
    return Radar(values, dates)


def _hundredths(found: NDArray[Any], tile: str, of: str, findings: Findings) -> NDArray[np.int16]:
    """Decibel x 100, rounded; what is not finite is nodata."""
    with np.errstate(over="ignore", invalid="ignore"):  # what is strange is told below
        scaled: NDArray[np.float32] = np.multiply(found, SCALE, dtype=np.float32)
    np.rint(scaled, out=scaled)
    if scaled.min(initial=0) >= -HIGHEST and scaled.max(initial=0) <= HIGHEST:  # never with NaN
        return scaled.astype(np.int16)
    known = np.isfinite(scaled)
    findings.add(f"{of}values not finite, taken as nodata", tile, known.size - int(np.count_nonzero(known)))
    beyond = known & (np.abs(scaled) > HIGHEST)
    findings.add(f"{of}values beyond 327 dB, clipped", tile, int(np.count_nonzero(beyond)))
    return np.where(known, np.clip(scaled, -HIGHEST, HIGHEST), NODATA).astype(np.int16)
