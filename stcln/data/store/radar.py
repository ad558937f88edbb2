"""The radar images of a store at the dates of its optical ones: of every date the latest image that is not after it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stcln.data.store.chunks import Sharded, Window
from stcln.data.tile import NODATA


class Orbit:
    """The images of one orbit direction.

    Args:
        array: int16 [tile,time,C,y,x], decibel x 100.
        days: int32 [tile,time], -1 where padded: when these images were taken.
        optical: The same of the store's reflectance.
        mean: float32 [C], what stands where there is no image yet, or nodata: 0 once normalised by the same mean.
    """

    def __init__(
        self, array: Sharded, days: NDArray[np.int32], optical: NDArray[np.int32], mean: NDArray[np.float32]
    ) -> None:
        self.array, self.days, self.optical = array, days, optical
        self.fill = np.rint(np.nan_to_num(mean)).astype(np.int16)[:, None, None]

    def read(self, tile: int, times: NDArray[np.intp] | None, window: Window) -> NDArray[Any]:
        """A window at some optical dates, int16 [T,C,H,W]; arguments and errors as of `Sharded.read`."""
        own, optical = (days[tile][days[tile] >= 0] for days in (self.days, self.optical))
        at = optical if times is None else optical[times]
        latest = np.searchsorted(own, at, side="right") - 1
        used = np.unique(np.maximum(latest, 0))
        images = self.array.read(tile, used, window)
        found = np.broadcast_to(self.fill, (len(at), *images.shape[1:])).copy()
        known = latest >= 0
        found[known] = images[np.searchsorted(used, latest[known])]
        return np.where(found == NODATA, self.fill, found)
