"""Reflectance of what stands on a field, by a table of canopies from PROSPECT-D and 4SAIL; the sensor's bands.

The table (`canopy.py`) was computed by `table()` with the PyPI package `prosail` 2.0.5 (J. Gomez-Dans; PROSPECT-D of
Feret et al. 2017, 4SAIL of Verhoef et al. 2007), too heavy to need at run time; a test computes it again.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stcln.data.simulate.canopy import TABLE

Array = NDArray[np.float32]

BANDS: Final = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
FINE: Final = ("B02", "B03", "B04", "B08")  # 10 m; B01, B09, B10 are 60 m, the others 20 m
LAND: Final = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
"""The ten bands of surface products, as PASTIS orders them."""

CENTRE: Final = (
    443,
    490,
    560,
    665,
    705,
    740,
    783,
    842,
    865,
    945,
    1375,
    1610,
    2190,
)  # nm, ESA's Sentinel-2 user handbook
WIDTH: Final = (20, 65, 35, 30, 15, 15, 20, 115, 20, 20, 30, 90, 180)

# N, chlorophyll and carotenoids (ug/cm2), brown pigment, water and dry matter (g/cm2), mean leaf angle (degrees)
LEAVES: Final = {
    "narrow": (1.7, 35.0, 8.0, 0.1, 0.014, 0.006, 60.0),
    "broad": (1.6, 38.0, 8.0, 0.1, 0.018, 0.005, 40.0),
    "yellow": (2.5, 0.2, 1.0, 0.6, 0.001, 0.012, 50.0),
    "flower": (1.5, 14.0, 10.0, 0.0, 0.015, 0.004, 35.0),
}
NARROW, BROAD, YELLOW, FLOWER = range(4)
AREA: Final = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 6.5)  # leaf area index of the table's rows
SUN, VIEW, AZIMUTH = 42.0, 5.0, 90.0  # degrees
HOTSPOT = 0.05
SOILS: Final = ((0.65, 1.0), (0.90, 0.35))  # brightness and dryness of prosail's soil: dry, moist

_STEP = 0.05
_GRID = np.arange(0, AREA[-1] + _STEP / 2, _STEP)
_CANOPY = np.array(TABLE, np.float32).reshape(len(LEAVES), len(SOILS), len(AREA), len(BANDS)) / 1e4
_FINE = np.stack([np.interp(_GRID, AREA, row) for row in np.moveaxis(_CANOPY, 2, -1).reshape(-1, len(AREA))])
LOOKUP: Final = np.ascontiguousarray(
    np.moveaxis(_FINE.reshape(len(LEAVES), len(SOILS), len(BANDS), len(_GRID)), 2, -1), np.float32
)  # [leaves, soil, leaf area, band]

# The atmosphere over a clear scene: what it adds (path) and lets through, for top-of-atmosphere products.
PATH: Final = np.array(
    [0.105, 0.078, 0.045, 0.026, 0.021, 0.018, 0.014, 0.012, 0.011, 0.006, 0.001, 0.003, 0.001], np.float32
)
THROUGH: Final = np.array([0.80, 0.84, 0.88, 0.91, 0.90, 0.90, 0.93, 0.92, 0.95, 0.42, 0.01, 0.95, 0.92], np.float32)
CLOUD: Final = np.array([0.66, 0.66, 0.65, 0.66, 0.67, 0.68, 0.69, 0.69, 0.69, 0.40, 0.05, 0.48, 0.36], np.float32)


def canopy(area: Array, yellow: Array, bloom: Array, broad: NDArray[np.bool_], dry: Array) -> Array:
    """Reflectance of canopies.

    Args:
        area: Leaf area index, green and yellow [...].
        yellow: Share of it that is yellow [...].
        bloom: Share covered by flowers [...].
        broad: Broad leaves, else narrow [...].
        dry: Dryness of the soil, 0 to 1 [...].

    Returns:
        Surface reflectance [..., 13].
    """
    step = np.clip(np.rint(area / _STEP), 0, len(_GRID) - 1).astype(np.intp)
    leaves = np.where(broad, BROAD, NARROW)
    parts = ((leaves, 1 - yellow), (YELLOW, yellow))
    soil = dry[..., None]
    mixed = np.zeros((*area.shape, len(BANDS)), np.float32)
    for kind, share in parts:
        mixed += share[..., None] * (soil * LOOKUP[kind, 0, step] + (1 - soil) * LOOKUP[kind, 1, step])
    if bloom.any():
        mixed += bloom[..., None] * (LOOKUP[FLOWER, 0, step] - mixed)
    return mixed


def table() -> list[list[int]]:
    """Compute the table of `canopy.py` anew: rows by leaves, soil, leaf area; reflectance x 10,000 by band.

    Raises:
        ImportError: `prosail` is not installed.
    """
    import prosail  # type: ignore[import-untyped, unused-ignore]

    rows = []
    for n, chlorophyll, carotene, brown, water, matter, angle in LEAVES.values():
        for bright, dryness in SOILS:
            for area in AREA:
                rho: NDArray[Any] = prosail.run_prosail(
                    n, chlorophyll, carotene, brown, water, matter, area, angle, HOTSPOT, SUN, VIEW, AZIMUTH,
                    prospect_version="D", typelidf=2, rsoil=bright, psoil=dryness, factor="SDR",
                )  # fmt: skip
                bands = [rho[c - w // 2 - 400 : c + w // 2 - 399].mean() for c, w in zip(CENTRE, WIDTH, strict=True)]
                rows.append([round(1e4 * float(value)) for value in bands])
    return rows
