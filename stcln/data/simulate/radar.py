"""Radar over the region: backscatter at C band by orbit direction, on dates of its own, through any cloud.

A canopy is a cloud of water over soil (Attema and Ulaby, 1978): it scatters by itself and veils the ground, and wet
ground scatters more.
"""

from datetime import date

import numpy as np
from numpy.typing import NDArray

from stcln.data.simulate.fields import Place, generator
from stcln.data.simulate.phenology import develop
from stcln.data.simulate.scene import LAST, Season
from stcln.data.simulate.weather import weather
from stcln.data.tile import ORBITS

INCIDENCE = dict(zip(ORBITS, (39.0, 43.0), strict=True))
"""Angle of incidence by orbit direction, degrees."""
REVISIT = 12  # days
SCATTER, VEIL = np.array([0.020, 0.008]), np.array([0.10, 0.05])  # of a canopy, by polarisation: VV, VH
DRY, WETTER = np.array([-15.0, -24.0]), np.array([6.0, 5.0])  # of soil, dB; and how much more when it is wet
LOOKS = 5  # averaged against speckle


class Orbit:
    """What the satellite records of a season from one direction.

    Args:
        season: The season.
        name: One of `tile.ORBITS`.

    Attributes:
        dates: Acquisitions, ascending [T].
    """

    def __init__(self, season: Season, name: str) -> None:
        self.season, self.number, self.slant = season, ORBITS.index(name), np.cos(np.radians(INCIDENCE[name]))
        first = int(generator(season.seed, 10, season.year, self.number).integers(REVISIT))
        days = np.arange(first, (date(season.year, *LAST) - season.start).days, REVISIT)
        self.dates = np.datetime64(season.start) + days.astype("timedelta64[D]")
        climate = weather(season.seed, season.year)
        at = (self.dates - np.datetime64(climate.first)).astype(int)
        state = develop(season.ground, season.seed, season.year, climate)
        self.area, self.wet = (state.green + 0.5 * state.yellow)[:, at], climate.wet[at]
        self.rough = generator(season.seed, 11).normal(0, 1, season.ground.count + 1)  # dB, the same in every season

    def view(self, place: Place) -> NDArray[np.float32]:
        """Backscatter of a tile, float32 [T,3,H,W], dB: VV, VH, and their ratio VH/VV."""
        size = self.season.ground.size
        field = self.season.ground.fields[place.row : place.row + size, place.col : place.col + size]
        rng = generator(self.season.seed, 12, self.season.year, self.number, place.number)
        area = np.moveaxis(self.area[field], -1, 0)
        both = []
        for scatter, veil, dry, wetter in zip(SCATTER, VEIL, DRY, WETTER, strict=True):
            soil = 10 ** ((dry + wetter * self.wet[:, None, None] + self.rough[field]) / 10)
            through = np.exp(-2 * veil * area / self.slant)
            power = scatter * area * self.slant * (1 - through) + through * soil
            both.append(10 * np.log10(power * rng.gamma(LOOKS, 1 / LOOKS, power.shape)))
        vv, vh = both
        return np.stack([vv, vh, vh - vv], axis=1).astype(np.float32)
