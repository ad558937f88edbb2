"""The one thing every reader yields."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

VOID = 255  # a label outside every class
NODATA = -32768  # of radar
ORBITS = ("S1A", "S1D")  # of radar: ascending and descending


@dataclass(frozen=True)
class Radar:
    """A radar image time series of one orbit direction, on the tile's grid, on dates of its own.

    Attributes:
        values: int16 [T,C,H,W], decibel x 100; -32768 = nodata. C is what the study keeps of VV, VH, VH/VV. T may be
            0: the orbit never saw the tile in the season.
        dates: datetime64[D] [T], ascending, each day once.
    """

    values: NDArray[np.int16]
    dates: NDArray[np.datetime64]


@dataclass(frozen=True)
class Tile:
    """A square of ground with its image time series of one season.

    Attributes:
        id: The data set's own name of the tile.
        split: The data set's own split: `fold_1`, `train_fold0`, `eval`, `test`.
        reflectance: int16 [T,C,H,W], reflectance x 10,000.
        dates: datetime64[D] [T], ascending, each day once.
        valid: bool [T,H,W], true where a pixel was seen: neither nodata nor cloud.
        labels: uint8 [H,W], class index; 255 = outside every class.
        crs: Coordinate reference system as `EPSG:<code>`.
        transform: Affine coefficients (a, b, c, d, e, f): x = a col + b row + c, y = d col + e row + f, metres.
        radar: By orbit, `S1A` ascending and `S1D` descending; empty for most layouts.
    """

    id: str
    split: str
    reflectance: NDArray[np.int16]
    dates: NDArray[np.datetime64]
    valid: NDArray[np.bool_]
    labels: NDArray[np.uint8]
    crs: str
    transform: tuple[float, float, float, float, float, float]
    radar: Mapping[str, Radar] = field(default_factory=dict)
