"""Season lengths: which dates of a series a length keeps."""

import calendar
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from stcln.errors import BadInput
from stcln.study import Length

PASSES = timedelta(days=10)  # two of Sentinel-2, of which one may be clouded


def choose(
    dates: NDArray[np.datetime64], length: Length, season: str, rng: np.random.Generator | None = None
) -> NDArray[np.intp]:
    """Choose dates by a length's rule: first the cut (`until`), then the number (`dates`).

    Args:
        dates: Ascending, datetime64[D] [T].
        length: The rule. If a series has fewer dates than it asks for, all are kept.
        season: Year whose day `until` is.
        rng: For `random` draws in training; without it the choice is evenly spaced in rank, both ends included.

    Returns:
        Ascending indices into `dates`.

    Raises:
        BadInput: No date is left.
    """
    kept = np.arange(len(dates))
    if length.until:
        kept = kept[dates <= last_day(length.until, season)]
    if not len(kept):
        problem = f"length {length.model_dump(exclude_defaults=True)} leaves no date of season {season}"
        raise BadInput("params.yaml, field lengths", problem, "move `until` behind the season's first date")
    if length.dates is None or length.dates >= len(kept):
        return kept
    if length.choose == "random" and rng is not None:
        return np.sort(rng.choice(kept, length.dates, replace=False))
    return kept[np.linspace(0, len(kept) - 1, length.dates).round().astype(np.intp)]


def reached(last_image: date, until: str, season: str) -> bool:
    """Whether a season's images go on to the day `until`, or to a few days before it, between which there was no pass.

    Args:
        last_image: The day of its newest one.
        until: Of a length.
        season: Its year.
    """
    return bool(np.datetime64(last_image + PASSES) > last_day(until, season))


def last_day(until: str, season: str) -> np.datetime64:
    """The day `MM-DD` of a season's year; a day that the month lacks (02-29, 06-31) is its last one."""
    month, day = (int(part) for part in until.split("-"))
    return np.datetime64(f"{season}-{month:02}-{min(day, calendar.monthrange(int(season), month)[1]):02}")
