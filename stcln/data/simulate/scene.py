"""A season over the region: acquisition dates, and what the sensor records of a tile."""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from stcln.data.simulate import clouds
from stcln.data.simulate.crops import PASTIS
from stcln.data.simulate.fields import Place, Region, crops, generator
from stcln.data.simulate.phenology import develop
from stcln.data.simulate.spectra import BANDS, CLOUD, FINE, PATH, THROUGH, canopy
from stcln.data.simulate.weather import weather

Array = NDArray[np.float32]

REVISIT = 5  # days between acquisitions of one orbit
LAST = (11, 30)  # month and day a season ends
_COARSE = tuple(i for i, band in enumerate(BANDS) if band not in FINE)
_LIT = np.array([0.45, 0.40, 0.32, 0.26, 0.24, 0.22, 0.20, 0.19, 0.18, 0.17, 0.17, 0.12, 0.10], np.float32)
"""Light left in a full shadow, by band: skylight is blue."""


@dataclass(frozen=True)
class View:
    """A tile as recorded in a season.

    Attributes:
        place: The tile.
        dates: Acquisitions that saw it, ascending [T].
        surface: Reflectance under the atmosphere, float32 [T,13,H,W]; clouds, shadows and noise included.
        toa: The same at the top of the atmosphere.
        opacity: Of cloud, float32 [T,H,W].
        shadow: Depth of cloud shadow, float32 [T,H,W].
        seen: bool [T,H,W], false beyond the swath's edge.
        crop: int [H,W], index into `crops.NAMES`.
        field: int32 [H,W], field number; 0 = margin or track.
    """

    place: Place
    dates: NDArray[np.datetime64]
    surface: Array
    toa: Array
    opacity: Array
    shadow: Array
    seen: NDArray[np.bool_]
    crop: NDArray[np.intp]
    field: NDArray[np.int32]


class Season:
    """A season of the region; `view` records a tile. Two seasons share the ground and nothing else.

    Args:
        ground: Fields and tiles.
        seed: Of the study.
        year: The season's name.
        start: First day.
        dates: Number of acquisitions; those wholly under cloud are then dropped.
    """

    def __init__(self, ground: Region, seed: int, year: int, start: date, dates: int) -> None:
        self.ground, self.seed, self.year, self.start = ground, seed, year, start
        rng = generator(seed, 6, year)
        days, ordinals = _acquisitions(rng, start, date(year, *LAST), dates)
        share = clouds.shares(rng, ordinals)
        clear = share < 0.8
        self.dates, ordinals, share = days[clear], ordinals[clear], share[clear]
        elevation, azimuth = clouds.sun(ordinals)
        height, width = ground.fields.shape
        skies = [
            clouds.cover(rng, float(s), float(e), float(a), height, width)
            for s, e, a in zip(share, elevation, azimuth, strict=True)
        ]
        self.opacity, self.shadow = (np.stack(parts).astype(np.float16) for parts in zip(*skies, strict=True))
        self.edge = self._swath(rng)
        self.gain = rng.normal(1, 0.02, (len(self.dates), 1, 1, 1)).astype(np.float32)
        self.haze = (0.75 + rng.gamma(4, 0.0625, (len(self.dates), 1))).astype(np.float32)  # 1 = a usual day
        self._grow(rng)

    def _grow(self, rng: np.random.Generator) -> None:
        climate = weather(self.seed, self.year)
        at = (self.dates - np.datetime64(climate.first)).astype(int)
        state = develop(self.ground, self.seed, self.year, climate)
        curves = (curve[:, at].astype(np.float32) for curve in (state.green, state.yellow, state.bloom))
        self.green, self.yellow, self.bloom = curves
        self.broad = state.broad[:, at]
        fixed = generator(self.seed, 7)  # the soils of the fields do not change with the year
        self.soil = fixed.normal(1, 0.10, self.ground.count + 1).astype(np.float32)
        local = rng.normal(0, 0.08, (self.ground.count + 1, len(at)))
        self.dry = np.clip(1 - climate.wet[at] + local, 0, 1).astype(np.float32)
        self.crop = crops(self.ground, self.seed, self.year)

    def _swath(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """By date, how far (share of the region's width) the neighbouring orbit reaches; most dates are whole."""
        return np.where(rng.random(len(self.dates)) < 0.2, rng.uniform(0.3, 1.1, len(self.dates)), 9.0)

    def view(self, place: Place) -> View:
        """Record a tile; the order of calls does not matter."""
        size = self.ground.size
        rows, columns = slice(place.row, place.row + size), slice(place.col, place.col + size)
        field = self.ground.fields[rows, columns]
        seen = self._seen(place)
        keep = seen.mean((1, 2)) > 0.5
        rng = generator(self.seed, 8, self.year, place.number)
        light = self._reflect(place, rng, keep)
        opacity, shadow = (sky[keep, rows, columns].astype(np.float32) for sky in (self.opacity, self.shadow))
        light *= 1 - shadow[:, None] * (1 - _LIT[:, None, None])
        bright = CLOUD[:, None, None] * rng.normal(1, 0.06, (len(light), 1, 1, 1)).astype(np.float32)
        light = _coarsen(light + opacity[:, None] * (bright - light))
        light += rng.standard_normal(light.shape, np.float32) * (0.0015 + 0.012 * light)
        haze = (PATH * self.haze[keep])[..., None, None]
        surface = np.clip(light + 0.22 * haze, 0.0001, 2).astype(np.float32)
        toa = np.clip(light * THROUGH[:, None, None] + haze, 0.0001, 2).astype(np.float32)
        toa[:, BANDS.index("B10")] += 0.03 * opacity
        return View(place, self.dates[keep], surface, toa, opacity, shadow, seen[keep], self._labels(field), field)

    def _labels(self, field: NDArray[np.int32]) -> NDArray[np.intp]:
        return np.where(field == 0, len(PASTIS) - 1, self.crop[field])

    def _seen(self, place: Place) -> NDArray[np.bool_]:
        size, (_, width) = self.ground.size, self.ground.fields.shape
        across = (place.col + np.arange(size)[None, :] + 0.2 * (place.row + np.arange(size))[:, None]) / width
        return np.asarray(across[None] < self.edge[:, None, None])

    def _reflect(self, place: Place, rng: np.random.Generator, keep: NDArray[np.bool_]) -> Array:
        """Reflectance of the ground with a pixel's margin blurred in, [T,13,H,W]."""
        size, (height, width) = self.ground.size, self.ground.fields.shape
        rows = np.clip(np.arange(place.row - 1, place.row + size + 1), 0, height - 1)
        columns = np.clip(np.arange(place.col - 1, place.col + size + 1), 0, width - 1)
        field = self.ground.fields[np.ix_(rows, columns)]
        curves = (self.green, self.yellow, self.bloom, self.dry)
        green, yellow, bloom, dry = (np.moveaxis(curve[:, keep][field], -1, 0) for curve in curves)
        broad = np.moveaxis(self.broad[:, keep][field], -1, 0)
        area = green * _patches(rng, *field.shape) + yellow
        part = np.divide(yellow, area, out=np.zeros_like(area), where=area > 0)
        rho = canopy(area, part, bloom, broad, dry)
        rho *= 1 + (np.exp(-0.6 * area) * (self.soil[field] - 1))[..., None]
        rho *= self.gain[keep]
        return _blur(np.moveaxis(rho, -1, 1))


def _acquisitions(
    rng: np.random.Generator, start: date, last: date, count: int
) -> tuple[NDArray[np.datetime64], NDArray[np.intp]]:
    """Days of acquisition, spread over the season on an orbit's rhythm, and their days of the year."""
    days = (last - start).days
    rhythm = max(1, min(REVISIT, days // (count + 1)))
    slots = np.arange(int(rng.integers(rhythm)), days, rhythm)
    bounds = np.linspace(0, len(slots), count + 1)
    drawn = np.floor(bounds[:-1] + rng.random(count) * np.diff(bounds)).astype(int)
    when = [start + timedelta(int(slots[i])) for i in np.unique(drawn)]
    return np.array(when, "datetime64[D]"), np.array([day.timetuple().tm_yday for day in when], np.intp)


def _patches(rng: np.random.Generator, height: int, width: int) -> Array:
    """Growth within fields, around 1: smooth patches, the same all season."""
    coarse = rng.normal(0, 0.12, (height // 4 + 2, width // 4 + 2))
    rough = np.kron(coarse, np.ones((4, 4)))[:height, :width] + rng.normal(0, 0.05, (height, width))
    return np.exp(rough).astype(np.float32)


def _blur(light: Array) -> Array:
    """The sensor's point spread: a 3x3 kernel over the last two axes, without the outer pixel."""
    side, middle = np.float32(0.11), np.float32(0.78)
    down = side * (light[..., :-2, :] + light[..., 2:, :]) + middle * light[..., 1:-1, :]
    return np.asarray(side * (down[..., :-2] + down[..., 2:]) + middle * down[..., 1:-1])


def _coarsen(light: Array) -> Array:
    """Average the 20 m and 60 m bands over 2x2 pixels and repeat: a pixel of theirs on the grid of 10 m."""
    T, _, H, W = light.shape
    coarse = light[:, _COARSE].reshape(T, len(_COARSE), H // 2, 2, W // 2, 2).mean((3, 5))
    light[:, _COARSE] = coarse.repeat(2, -1).repeat(2, -2)
    return light
