"""How far test ground lies from the ground that trains: footprints as quadrilaterals, distances in metres."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from stcln.data.prepare.count import Count
from stcln.data.splits import overlap

Points = NDArray[np.float64]


class Place(NamedTuple):
    """Where a tile lies and which split it is of, as in `Count`; plain numbers, of which a season has many."""

    id: str
    split: str
    crs: str
    transform: tuple[float, ...]
    size: tuple[int, ...]
    labelled: tuple[int, ...]

    @classmethod
    def of(cls, count: Count) -> Self:
        """The place of a counted tile."""
        numbers = tuple(count.transform), tuple(count.size), tuple(count.labelled)
        return cls(count.id, count.split, count.crs, *numbers)


class Ground(NamedTuple):
    """A piece of ground: the tile's id, its corners [4,2] in turn, metres, and the side of a pixel, metres."""

    id: str
    corners: Points
    pixel: float

    @classmethod
    def of(cls, place: Place) -> Self:
        """All of a tile."""
        return cls._box(place, 0, place.size[0], 0, place.size[1])

    @classmethod
    def labelled(cls, place: Place) -> Self | None:
        """The smallest box around a tile's labelled pixels; None where it has none."""
        return cls._box(place, *place.labelled) if place.labelled else None

    @classmethod
    def _box(cls, place: Place, y: int, to_y: int, x: int, to_x: int) -> Self:
        a, b, c, d, e, f = place.transform
        grid = np.array([(x, y), (to_x, y), (to_x, to_y), (x, to_y)], np.float64)
        return cls(place.id, grid @ np.array([(a, d), (b, e)]) + (c, f), float(np.hypot(a, d)))


def separation(tested: Sequence[Ground], others: Sequence[Ground]) -> dict[str, Any]:
    """How near two sets of tiles come.

    Returns:
        `metres` between the nearest two, `tiles`, which they are, and `adjacent`: how many tested ones have another
        nearer than half a pixel. Empty if a set is.
    """
    if not tested or not others:
        return {}
    corners = np.array([ground.corners for ground in others])
    low, high = corners.min(axis=1), corners.max(axis=1)
    found = [(*_nearest(one.corners, corners, low, high), one) for one in tested]
    metres, at, nearest = min(found, key=lambda f: (f[0], f[2].id, others[f[1]].id))
    adjacent = sum(far < one.pixel / 2 for far, _, one in found)
    return {"metres": round(metres, 1), "tiles": [nearest.id, others[at].id], "adjacent": adjacent}


def _nearest(one: Points, others: Points, low: Points, high: Points) -> tuple[float, int]:
    """Distance of a quadrilateral [4,2] to the nearest of others [N,4,2] with bounds [N,2], and which that is."""
    gaps = np.maximum(0, np.maximum(low - one.max(axis=0), one.min(axis=0) - high))
    bound = np.hypot(gaps[:, 0], gaps[:, 1])  # of the boxes around them: never more than the distance itself
    best, at = np.inf, -1
    for other in np.argsort(bound, kind="stable").tolist():
        if bound[other] >= best:
            break
        if (metres := _between(one, others[other])) < best:
            best, at = metres, other
    return best, at


def _between(p: Points, q: Points) -> float:
    """Distance of two convex quadrilaterals, 0 where they touch or overlap."""
    if overlap(p, q) >= 0:
        return 0.0
    return min(_to_edges(p, q), _to_edges(q, p))


def _to_edges(points: Points, shape: Points) -> float:
    """Distance of the nearest of some points to the outline of a shape."""
    start, edge = shape[None], (np.roll(shape, -1, axis=0) - shape)[None]
    along = ((points[:, None] - start) * edge).sum(axis=2) / (edge**2).sum(axis=2)
    foot = start + np.clip(along, 0, 1)[..., None] * edge
    return float(np.hypot(*np.moveaxis(points[:, None] - foot, 2, 0)).min())
