"""What predicting the test tiles takes: counted, the same at every run, and by the clock, which no output may hold."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from stcln.data.series import Series
from stcln.data.store import SeasonStore
from stcln.events import Value
from stcln.model.checkpoint import Card
from stcln.model.cost import map_multiply_adds, tile_multiply_adds

KM2 = 1e6  # square metres


class Spent:
    """Adds up over the test tiles of all seasons."""

    def __init__(self) -> None:
        self._area = self._on_tiles = self._on_map = self._seconds = 0.0

    def add(self, card: Card, store: SeasonStore, tile: int, seen: Series) -> None:
        """Count a tile, as one model predicts it.

        Args:
            card: The model's.
            store: Of the season.
            tile: Its index there.
            seen: The tile at the dates that the model looks at.
        """
        a, b, _, d, e, _ = store.transform(tile)
        height, width = seen.labels.shape
        pixels, dates = height * width, len(seen.dates)
        self._area += pixels * abs(a * e - b * d) / KM2
        self._on_tiles += tile_multiply_adds(card, dates, height, width)
        self._on_map += pixels * map_multiply_adds(card, dates)

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Within, a model predicts a tile."""
        began = time.perf_counter()
        yield
        self._seconds += time.perf_counter() - began

    def counts(self) -> dict[str, float | int]:
        """Of one model: km2 tested, and multiply-adds a km2, on these tiles and on a map much larger than a window."""
        return {
            "km2": round(self._area, 6),
            "tile_multiply_adds_per_km2": round(self._on_tiles / self._area),
            "map_multiply_adds_per_km2": round(self._on_map / self._area),
        }

    def seconds(self, models: int) -> dict[str, Value]:
        """By the clock, predicting alone: seconds a km2 of test tiles, mean over so many models."""
        return {"predict_seconds_per_km2": self._seconds / (models * self._area)}
