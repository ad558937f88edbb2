"""What stands on every field on every day: green and yellow leaf area, flowers; by degree days and drought."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from stcln.data.simulate.crops import ANNUAL, MEADOW, WOOD, Crop
from stcln.data.simulate.fields import Region, crops, generator
from stcln.data.simulate.weather import Weather

Days = NDArray[np.float64]  # [fields, days]
STUBBLE = 0.5  # leaf area index left by the harvester
WEEDS = 0.17  # leaf area index of what was not sown


@dataclass(frozen=True)
class State:
    """Fields over days; all [fields + 1, days], entry 0 the tracks.

    Attributes:
        green: Green leaf area index.
        yellow: Yellow leaf area index.
        bloom: Share covered by flowers.
        broad: Broad leaves.
    """

    green: Days
    yellow: Days
    bloom: Days
    broad: NDArray[np.bool_]


def develop(ground: Region, seed: int, year: int, weather: Weather) -> State:
    """The fields from 1 January before the season's own year to its 31 December.

    A field goes from year to year: a crop from sowing to harvest, then stubble, then a catch crop or nothing.
    """
    count, days = ground.count + 1, len(weather.temperature)
    green, yellow, bloom = np.zeros((3, count, days))
    state = State(green, yellow, bloom, np.zeros((count, days), bool))
    free = np.zeros(count)  # the day a field was last cleared
    for y in (year - 1, year, year + 1):
        grown = crops(ground, seed, y)
        rng = generator(seed, 4, y)
        vary = _Variation(rng, count)
        for index, crop in enumerate(ANNUAL):
            where = np.flatnonzero(grown == index)
            if len(where):
                free[where] = _season(state, where, crop, y, weather, vary, free[where])
    state.green[1:] += WEEDS * generator(seed, 9, year).gamma(3, 1 / 3, (ground.count, 1))
    for index, grow in ((MEADOW, _meadow), (WOOD, _wood)):
        where = np.flatnonzero(crops(ground, seed, year) == index)
        grow(state, where, weather, generator(seed, 5, index))
    return state


class _Variation:
    """What differs between fields of one crop in one year; every field draws whatever it grows."""

    def __init__(self, rng: np.random.Generator, count: int) -> None:
        self.late = rng.gamma(1.5, 5.5, count)  # days
        self.pace = rng.normal(1, 0.05, count)
        self.vigour = np.exp(rng.normal(0, 0.14, count))
        self.catch = rng.random(count)
        self.fallow = rng.uniform(25, 50, count)  # days from harvest to catch crop
        self.clear = rng.uniform(0, 20, count)  # days from its end to sowing


def _season(
    state: State,
    where: NDArray[np.intp],
    crop: Crop,
    year: int,
    weather: Weather,
    vary: _Variation,
    free: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Grow one crop of one year on some fields, and what stood there before it; return the days of harvest."""
    day = np.arange(len(weather.temperature))
    sow = np.maximum(_sowing(crop, year, weather) + vary.late[where], free + 5)
    _catch(state, where, crop, weather, vary, free, sow)
    heat = _heat(weather, crop.base, sow, vary.pace[where])
    thirst = np.cumsum(weather.stress)
    early = 2 * np.maximum(thirst - thirst[np.clip(sow, 0, len(day) - 1).astype(int), None], 0)  # drought ripens a crop
    gone = heat + early >= crop.harvest
    harvest = np.where(gone.any(1), gone.argmax(1), len(day)).astype(float)
    ripe = _rise(heat + early, crop.ripe, 75)
    leaf = crop.leaf * vary.vigour[where, None] * (1 - 0.25 * weather.stress)
    start = 0.22 if crop.winter else 0.02  # tillers or seedlings before the spring's growth
    leaf = leaf * (start * _rise(heat, 0.3 * crop.close, 50) + (1 - start) * _rise(heat, crop.close, crop.spread))
    stands = (day >= sow[:, None]) & (day < harvest[:, None])
    state.green[where] += stands * leaf * (1 - ripe)
    state.yellow[where] += stands * leaf * ripe * 0.8
    state.broad[where] |= stands & crop.broad
    since = day - harvest[:, None]
    state.yellow[where] += (since >= 0) * STUBBLE * np.exp(-np.maximum(since, 0) / 30)
    if crop.bloom:
        first, last = crop.bloom
        state.bloom[where] += stands * 0.65 * _rise(heat, first, 25) * (1 - _rise(heat, last, 25))
    return harvest


def _catch(
    state: State, where: NDArray[np.intp], crop: Crop, weather: Weather, vary: _Variation, free: NDArray[np.float64],
    sow: NDArray[np.float64],
) -> None:  # fmt: skip
    """Grow a catch crop, where a field has one, from the last harvest until the next sowing."""
    day = np.arange(len(weather.temperature))
    start = free + vary.fallow[where]
    heat = _heat(weather, 3, start, np.ones(len(where)))
    share = max(crop.catch, 0.7 * (crop.winter))
    sown = (day >= start[:, None]) & (day < sow[:, None]) & (vary.catch[where, None] < share)
    stands = sown * _rise((sow - vary.clear[where])[:, None] - day, 0, 3)  # killed some days before the next sowing
    state.green[where] += stands * 3.2 * vary.vigour[where, None] * _rise(heat, 380, 70)
    state.broad[where] |= sown


def _meadow(state: State, where: NDArray[np.intp], weather: Weather, rng: np.random.Generator) -> None:
    """Grass: cut several times by degree days of the year, growing back by degree days, browned by drought."""
    growth = np.maximum(weather.temperature - 3, 0) * (1 - 0.8 * weather.stress)
    spring = _this_year(weather, np.maximum(weather.temperature - 3, 0))
    first = rng.uniform(430, 800, len(where))
    every = rng.uniform(420, 800, len(where))
    vigour = np.exp(rng.normal(0, 0.12, len(where)))[:, None]
    cuts = np.floor((spring - first[:, None]) / every[:, None])
    cut = np.zeros(cuts.shape, bool)
    cut[:, 1:] = (np.diff(cuts, axis=1) > 0) & (cuts[:, 1:] >= 0)
    total = np.cumsum(growth)
    regrown = total - np.maximum.accumulate(np.where(cut, total, -1000.0), axis=1)
    leaf = 3.8 * vigour * (0.14 + 0.86 * (1 - np.exp(-np.maximum(regrown, 0) / 130)))
    thirsty = rng.uniform(0.1, 1.8, (len(where), 1))  # light soils dry out first
    brown = np.clip(0.06 + 0.80 * thirsty * weather.stress, 0, 0.9)
    winter = 1 - 0.25 * np.clip((4 - _smooth(weather.temperature, 20)) / 8, 0, 1)
    state.green[where] = leaf * (1 - brown) * winter
    state.yellow[where] = leaf * brown * 0.6


def _wood(state: State, where: NDArray[np.intp], weather: Weather, rng: np.random.Generator) -> None:
    """Tracks, copses, gardens: some evergreen leaf, some that follows the year."""
    warm = _rise(_this_year(weather, np.maximum(weather.temperature - 3, 0)), 330, 60)
    day = np.array([(date.fromordinal(weather.first.toordinal() + i)).timetuple().tm_yday for i in range(len(warm))])
    leafy = warm * (1 - _rise(day.astype(float), 300, 8))
    evergreen, deciduous = rng.uniform(0.3, 2.0, (len(where), 1)), rng.uniform(0.2, 3.0, (len(where), 1))
    evergreen[where == 0], deciduous[where == 0] = 0.5, 0.5
    state.green[where] = (evergreen + deciduous * leafy) * (1 - 0.4 * weather.stress)
    state.yellow[where] = 0.4 + 0.3 * weather.stress
    state.broad[where] = rng.random((len(where), 1)) < 0.5


def _sowing(crop: Crop, year: int, weather: Weather) -> int:
    """First day fit for sowing, as an index; past the end for a spring that is not simulated."""
    first = weather.day(date(year - crop.winter, *crop.sow))
    if crop.winter:
        return first
    fit = _this_year(weather, np.maximum(weather.temperature, 0))[first:] >= crop.warm
    return first + (int(fit.argmax()) if fit.any() else 0)


def _heat(weather: Weather, base: float, start: NDArray[np.float64], pace: NDArray[np.float64]) -> Days:
    """Degree days above `base` since a start, [fields, days]; negative before it."""
    total = np.cumsum(np.maximum(weather.temperature - base, 0))
    begin = total[np.clip(start, 0, len(total) - 1).astype(int)]
    return np.asarray((total - begin[:, None]) * pace[:, None])


def _this_year(weather: Weather, daily: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cumulative sum since each 1 January."""
    years = np.array([date.fromordinal(weather.first.toordinal() + i).year for i in range(len(daily))])
    total = np.cumsum(daily)
    return total - total[np.searchsorted(years, years)]


def _smooth(daily: NDArray[np.float64], days: int) -> NDArray[np.float64]:
    """Mean of the last days."""
    padded = np.concatenate([np.full(days - 1, daily[0]), daily])
    return np.convolve(padded, np.full(days, 1 / days), mode="valid")


def _rise(x: NDArray[np.float64], middle: float, spread: float) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-np.clip((x - middle) / spread, -40, 40))))
