"""Daily temperature and rain of a calendar year, and the water that soil holds: what drives phenology and drought."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from stcln.data.simulate.fields import generator

Series = NDArray[np.float64]  # [days]

LATITUDE = 50.0  # degrees north
CAPACITY = 100.0  # water that roots reach, mm
PAST = 2  # calendar years before the season that a series begins

# Temperature above the long-term mean (degrees Celsius) and rain relative to it, in January-March, April-May,
# June-August, September-December: those years as western and central Europe had them. 2018 was the drought.
KNOWN: dict[int, tuple[tuple[float, float, float, float], tuple[float, float, float, float]]] = {
    2016: ((0.5, -0.3, 0.3, 0.2), (1.1, 1.3, 1.2, 0.8)),
    2017: ((0.2, 0.2, 1.0, 0.0), (0.8, 0.9, 1.0, 1.1)),
    2018: ((-0.3, 1.9, 1.6, 0.8), (1.0, 0.8, 0.24, 1.0)),
    2019: ((1.0, -0.8, 0.8, 0.3), (1.1, 1.0, 0.74, 1.1)),
}


@dataclass(frozen=True)
class Weather:
    """Weather from 1 January two years before the season's own year to its 31 December.

    Attributes:
        first: Day 0.
        temperature: Daily mean, degrees Celsius.
        stress: Drought felt by shallow roots, 0 (none) to 1.
        wet: Moisture of the soil's surface, 0 (dry) to 1.
    """

    first: date
    temperature: Series
    stress: Series
    wet: Series

    def day(self, when: date) -> int:
        """Index of a calendar day."""
        return (when - self.first).days


def weather(seed: int, year: int) -> Weather:
    """Weather that leads to a season. A calendar year's own weather is the same whichever season asks for it."""
    years = [_calendar(seed, y) for y in range(year - PAST, year + 1)]
    temperature, rain = (np.concatenate(parts) for parts in zip(*years, strict=True))
    decay = np.exp(-np.arange(30) / 4)
    wet = 1 - np.exp(-np.convolve(rain, decay)[: len(rain)] / 12)
    return Weather(date(year - PAST, 1, 1), temperature, _stress(temperature, rain), wet)


def character(seed: int, year: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Departure of four parts of a year from the long-term mean: temperature, and factor on rain."""
    if year in KNOWN:
        return KNOWN[year]
    rng = generator(seed, 2, year)
    return tuple(rng.normal(0.3, 1.1, 4)), tuple(np.exp(rng.normal(-0.1, 0.35, 4)))


def _calendar(seed: int, year: int) -> tuple[Series, Series]:
    warm, moist = character(seed, year)
    rng = generator(seed, 3, year)
    days = (date(year + 1, 1, 1) - date(year, 1, 1)).days
    day = np.arange(days)
    middle = [45, 120, 197, 275]
    anomaly = np.interp(day, middle, warm)
    noise = np.zeros(days)
    shocks = rng.normal(0, 1.3, days)
    for i in range(1, days):
        noise[i] = 0.65 * noise[i - 1] + shocks[i]
    mean = 30.5 - 0.4 * LATITUDE
    temperature = mean + 8.2 * np.cos(2 * np.pi * (day - 201) / 365.25) + anomaly + noise
    rain = (rng.random(days) < 0.45) * rng.gamma(1.5, 2.2 / (0.45 * 1.5), days)
    return temperature, rain * np.interp(day, middle, moist)


def _stress(temperature: Series, rain: Series) -> Series:
    held, store = np.empty(len(rain)), CAPACITY
    for i, (warm, water) in enumerate(zip(temperature, rain, strict=True)):
        thirst = 0.2 * max(warm - 2, 0) * np.sqrt(store / CAPACITY)
        store = float(np.clip(store + water - thirst, 1, CAPACITY))
        held[i] = store / CAPACITY
    dry = np.clip((0.45 - held) / 0.4, 0, 1)
    weights = np.exp(-np.arange(60) / 15)
    return np.convolve(dry, weights / weights.sum())[: len(dry)]
