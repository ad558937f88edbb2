"""Clouds and their shadows: connected shapes over the region, date by date."""

import numpy as np
from numpy.typing import NDArray

from stcln.data.simulate.weather import LATITUDE

PIXEL = 10.0  # metres
GOLDEN = 0.6180339887498949
CLOUD_SHARE = 0.15  # opacity above which a scene classification calls a pixel cloud


def sun(day_of_year: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Elevation and azimuth of the sun at the overpass (10:30 local solar time), radians [dates]."""
    tilt = np.radians(-23.44) * np.cos(2 * np.pi * (day_of_year + 10) / 365.25)
    hour = np.radians(-22.5)
    latitude = np.radians(LATITUDE)
    elevation = np.arcsin(np.sin(latitude) * np.sin(tilt) + np.cos(latitude) * np.cos(tilt) * np.cos(hour))
    west = np.sin(hour) * np.cos(tilt) / np.cos(elevation)
    return elevation, np.pi + np.arcsin(np.clip(west, -1, 1))


def shares(rng: np.random.Generator, day_of_year: NDArray[np.intp]) -> NDArray[np.float64]:
    """Share of the sky under cloud by date [dates]: mostly all or nothing, more in winter."""
    winter = 0.5 + 0.5 * np.cos(2 * np.pi * (day_of_year - 10) / 365.25)
    kind = (rng.random() + GOLDEN * np.arange(len(day_of_year))) % 1  # dealt, so that no month stays blind
    clear = 0.72 - 0.22 * winter
    some = clear + 0.22
    return np.where(
        kind < clear,
        rng.uniform(-0.1, 0.04, len(kind)).clip(0),
        np.where(kind < some, rng.beta(1.2, 3.5, len(kind)), rng.beta(6, 1, len(kind))),
    )


def cover(
    rng: np.random.Generator, share: float, elevation: float, azimuth: float, height: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Clouds of one date.

    Returns:
        Opacity of cloud and depth of shadow, float32 [H,W] in 0 to 1. The sky goes on beyond the region: clouds
        outside throw shadows inside.
    """
    rows, columns = (1 << int(np.ceil(np.log2(side + 96))) for side in (height, width))
    base = float(rng.uniform(500, 2500))  # metres above ground
    thick = float(rng.uniform(0.55, 1.0))
    field = _ranked(_rough(rng, rows, columns))
    opacity = np.clip((share - field) / 0.06, 0, 1) * thick
    away = base / np.tan(elevation) / PIXEL
    shift = (
        round(away * np.cos(azimuth)),
        round(-away * np.sin(azimuth)),
    )  # rows run south, the shadow away from the sun
    shadow = np.roll(opacity, shift, (0, 1)) * (1 - opacity)
    return opacity[:height, :width].astype(np.float32), shadow[:height, :width].astype(np.float32)


def _rough(rng: np.random.Generator, rows: int, columns: int) -> NDArray[np.float64]:
    """Noise with a power spectrum like that of clouds, periodic."""
    spectrum = np.fft.rfft2(rng.normal(size=(rows, columns)))
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    return np.asarray(np.fft.irfft2(spectrum / (frequency**2 + (1 / 120) ** 2) ** 0.9, s=(rows, columns)))


def _ranked(field: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values replaced by their ranks, uniform in 0 to 1: a threshold is then a share of the area."""
    order = np.argsort(field, axis=None)
    ranks = np.empty(field.size)
    ranks[order] = np.linspace(0, 1, field.size)
    return ranks.reshape(field.shape)
