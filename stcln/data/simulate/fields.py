"""The ground: fields as polygons cut from one another, tiles in spatial blocks, and what grows where in a year."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rasterio.features import rasterize

from stcln.data.simulate.crops import ROTATIONS, WOOD

FIELD = 1.3  # mean area of a field, hectares
PIXEL = 10  # metres
FOLDS = 5
_GOLDEN = 0.6180339887498949

Polygon = NDArray[np.float64]  # [vertices, 2] convex, pixels (x, y)


@dataclass(frozen=True)
class Place:
    """A tile: its number from 1, its upper left pixel in the region, and its fold (0 to 4) of spatial blocks."""

    number: int
    row: int
    col: int
    fold: int


@dataclass(frozen=True)
class Region:
    """The simulated ground, the same in every season.

    Attributes:
        fields: int32 [H,W], field number from 1; 0 = track or field margin.
        count: Number of fields.
        places: The tiles.
        size: Side of a tile, pixels.
    """

    fields: NDArray[np.int32]
    count: int
    places: tuple[Place, ...]
    size: int


def generator(seed: int, *stream: int) -> np.random.Generator:
    """The random numbers of one stream: streams do not touch one another."""
    return np.random.default_rng([seed, *stream])


def region(seed: int, tiles: int, size: int, apart: bool) -> Region:
    """Lay out tiles and fields.

    Args:
        seed: Of the study.
        tiles: Number of tiles.
        size: Side of a tile, pixels.
        apart: Leave a tile's width of ground between blocks, so that no field reaches from one split into another.
    """
    places = _places(tiles, size, apart)
    height = max(place.row for place in places) + size
    width = max(place.col for place in places) + size
    polygons = _polygons(generator(seed, 0), height, width)
    shapes = [
        ({"type": "Polygon", "coordinates": [[*map(tuple, p), tuple(p[0])]]}, i) for i, p in enumerate(polygons, 1)
    ]
    ids = np.asarray(rasterize(shapes, out_shape=(height, width), dtype="int32"))
    margin = np.zeros(ids.shape, bool)
    margin[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    margin[1:] |= ids[1:] != ids[:-1]
    return Region(np.where(margin, 0, ids).astype(np.int32), len(polygons), places, size)


def crops(ground: Region, seed: int, year: int) -> NDArray[np.intp]:
    """What grows in a year, int [fields + 1] of indices into `crops.NAMES`; entry 0 is the tracks.

    Every field follows its own rotation. Rotations are dealt by a golden-ratio sequence along the fields in the order
    they were cut: neighbourhoods all have nearly the same mix, yet no two look alike.
    """
    shares = np.repeat([share / len(cycle) for share, cycle in ROTATIONS], [len(cycle) for _, cycle in ROTATIONS])
    grown = np.concatenate([np.roll(cycle, year % len(cycle)) for _, cycle in ROTATIONS])
    steps = generator(seed, 1).random() + _GOLDEN * np.arange(ground.count)
    drawn = np.searchsorted(np.cumsum(shares / shares.sum()), steps % 1, side="right")
    return np.concatenate([[WOOD], grown[np.minimum(drawn, len(grown) - 1)]]).astype(np.intp)


def _places(tiles: int, size: int, apart: bool) -> tuple[Place, ...]:
    side = 2 if tiles >= 4 * FOLDS else 1  # tiles along a block's edge
    blocks = -(-tiles // side**2)
    columns = int(np.ceil(np.sqrt(blocks)))
    pitch = side + apart
    places = []
    for number in range(tiles):
        block, within = divmod(number, side**2)
        row = (block // columns) * pitch + within // side
        col = (block % columns) * pitch + within % side
        places.append(Place(number + 1, row * size, col * size, block % FOLDS))
    return tuple(places)


def _polygons(rng: np.random.Generator, height: int, width: int) -> list[Polygon]:
    """Cut the region into fields, across the longer side each time."""
    whole = np.array([[-1, -1], [width + 1, -1], [width + 1, height + 1], [-1, height + 1]], float)
    wide = 30 * FIELD * (1e4 / PIXEL**2)  # pieces above this may be cut at any angle: the land's own grain
    stack, done = [whole], []
    while stack:
        piece = stack.pop()
        area = _area(piece)
        if area < FIELD * (1e4 / PIXEL**2) * np.exp(rng.normal(0.25, 0.4)):
            done.append(piece)
            continue
        centre = piece.mean(0)
        axis = np.linalg.svd(piece - centre, full_matrices=False)[2][0]
        turn = rng.normal(0, 0.35 if area > wide else 0.04)
        normal = np.array(
            [axis[0] * np.cos(turn) - axis[1] * np.sin(turn), axis[0] * np.sin(turn) + axis[1] * np.cos(turn)]
        )
        reach = (piece - centre) @ normal
        offset = rng.uniform(-0.15, 0.15) * (reach.max() - reach.min())
        stack += [_clip(piece, centre, normal, offset), _clip(piece, centre, -normal, -offset)]
    return done


def _area(piece: Polygon) -> float:
    x, y = piece.T
    return float(abs(np.dot(x, np.roll(y, 1)) - np.dot(y, np.roll(x, 1))) / 2)


def _clip(piece: Polygon, centre: Polygon, normal: Polygon, offset: float) -> Polygon:
    """The part of a convex polygon on the positive side of a line."""
    side = (piece - centre) @ normal - offset
    kept = []
    for here, there, a, b in zip(piece, np.roll(piece, -1, 0), side, np.roll(side, -1), strict=True):
        if a >= 0:
            kept.append(here)
        if a * b < 0:
            kept.append(here + (there - here) * a / (a - b))
    return np.array(kept)
