"""Which tiles and windows play which role in a study, and the proof that no test pixel is trained on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.events import Reporter, Silent
from stcln.study import Role, Study

RoleName = Literal["pretrain", "train", "validation", "test"]
ROLES: tuple[RoleName, ...] = ("pretrain", "train", "validation", "test")
SHOWN = 5  # names in a message


@dataclass(frozen=True)
class Selection:
    """A square window of a tile: the tile's index in its store, the window's row, column and side in pixels."""

    tile: int
    y: int
    x: int
    size: int


def listed(role: Role) -> list[str]:
    """The ids a role lists, in order, repetitions kept; empty if it lists none. Per class, so many from the front."""
    if isinstance(role.tiles, tuple):
        return list(role.tiles)
    return [name for names in role.tiles.values() for name in names[: role.per_class]]


def plays(role: Role, tile: str, split: str, lists: Literal["checked", "as-published"] = "checked") -> bool:
    """Whether a tile plays a role: one of its native splits is taken, and it is listed if the role lists any.

    With `lists` as published, a listed tile plays it whatever its split.
    """
    names = listed(role)
    if names and lists == "as-published":
        return tile in names
    return not set(role.take).isdisjoint(split.split()) and (not names or tile in names)


def select(store: SeasonStore, study: Study, role: RoleName, reporter: Reporter) -> list[Selection]:
    """The windows that play a role, tile by tile, each tile's from the top left.

    `test` takes whole tiles. The other roles take windows of `pretrain.window` or `finetune.window` pixels, as many as
    fit side by side, or the listed crops. Listed ids that are absent, in no split that is taken, or repeated are
    dropped with a note; `method.lists: as-published` keeps the repeated and the misplaced.

    Raises:
        BadInput: The windows do not fit into the tiles, or no tile plays the role.
    """
    tiles = _tiles(store, study, role, reporter)
    rule = getattr(study.splits, role)
    if not tiles:
        problem = f"no tile of season {store.season} plays it; its splits are {sorted(_names(store.splits))}"
        raise BadInput(f"params.yaml, field splits.{role}", problem, "name splits and ids that the season has")
    H, W = store.size
    if role == "test":
        return [Selection(tile, 0, 0, max(H, W)) for tile in tiles]
    size = study.pretrain.window if role == "pretrain" else study.finetune.window
    crops = rule.crops or [(row, column) for row in range(H // size) for column in range(W // size)]
    if not crops or any((row + 1) * size > H or (column + 1) * size > W for row, column in crops):
        problem = f"windows of {size} pixels do not fit into tiles of {H} x {W} pixels"
        raise BadInput(f"params.yaml, field splits.{role}", problem, "lower the window, or correct the crops")
    return [Selection(tile, row * size, column * size, size) for tile in tiles for row, column in crops]


def check_disjoint(study: Study, stores: Iterable[SeasonStore]) -> None:
    """Refuse a study in which a test tile plays another role too, by id or by ground, in any season.

    Raises:
        BadInput: With the tiles, the role and the seasons.
    """
    chosen = [(store, {role: _tiles(store, study, role, Silent()) for role in ROLES}) for store in stores]
    for test_store, test_roles in chosen:
        for store, roles in chosen:
            for role in ROLES[:-1]:
                pairs = _same_ground(test_store, test_roles["test"], store, roles[role])
                if pairs:
                    named = ", ".join(f"{test_store.ids[a]} and {store.ids[b]}" for a, b in pairs[:SHOWN])
                    problem = (
                        f"{len(pairs)} pairs of tiles share ground or id between test in {test_store.season} "
                        f"and {role} in {store.season}: {named}"
                    )
                    raise BadInput("params.yaml, field splits", problem, "give the roles different splits or lists")


def same_place(a: SeasonStore, b: SeasonStore) -> bool:
    """Whether two seasons share ground: a tile of the same id, or footprints that overlap."""
    every = list(range(len(a))), list(range(len(b)))
    return not set(a.ids).isdisjoint(b.ids) or bool(_same_ground(a, every[0], b, every[1]))


def _tiles(store: SeasonStore, study: Study, role: RoleName, reporter: Reporter) -> list[int]:
    """Indices of the tiles that play a role, as `select` states it."""
    rule: Role = getattr(study.splits, role)
    names = listed(rule)
    if not names:
        return [i for i, split in enumerate(store.splits) if plays(rule, store.ids[i], split)]
    index = {name: i for i, name in enumerate(store.ids)}
    once = list(dict.fromkeys(names))
    here = [name for name in names if name in index]
    if study.method.lists == "checked":
        here = [name for name in once if name in index and plays(rule, name, store.splits[index[name]])]
        _note(
            reporter, role, store, "repeated in the list, taken once", sorted({n for n in names if names.count(n) > 1})
        )
        misplaced = [name for name in once if name in index and name not in here]
        _note(reporter, role, store, f"in none of {list(rule.take)}, dropped", misplaced)
    _note(reporter, role, store, "absent from the season", [name for name in once if name not in index])
    return [index[name] for name in here]


def _note(reporter: Reporter, role: str, store: SeasonStore, what: str, names: list[str]) -> None:
    if names:
        values: Mapping[str, int | str] = {"tiles": len(names), "first": " ".join(names[:SHOWN])}
        reporter.note(f"splits.{role}, season {store.season}: listed ids {what}", values)


def _names(splits: Iterable[str]) -> set[str]:
    return {name for split in splits for name in split.split()}


def _same_ground(a: SeasonStore, tiles_a: list[int], b: SeasonStore, tiles_b: list[int]) -> list[tuple[int, int]]:
    """Pairs of tiles with the same id, or with footprints that overlap by more than half a pixel."""
    corners_a, corners_b = _corners(a, tiles_a), _corners(b, tiles_b)
    low, high = corners_b.min(1), corners_b.max(1)
    ids = np.array([b.ids[i] for i in tiles_b], dtype=object)
    pairs = []
    for i, corners in zip(tiles_a, corners_a, strict=True):
        hits = set(np.flatnonzero(ids == a.ids[i]).tolist())
        if a.crs == b.crs:
            near = np.flatnonzero((low < corners.max(0)).all(1) & (high > corners.min(0)).all(1)).tolist()
            hits |= {j for j in near if overlap(corners, corners_b[j]) > np.hypot(*a.transform(i)[0:4:3]) / 2}
        pairs += [(i, tiles_b[j]) for j in sorted(hits)]
    return pairs


def _corners(store: SeasonStore, tiles: list[int]) -> NDArray[np.float64]:
    """Corners of the footprints [tile,4,2] in metres, in turn; a footprint may be rotated against the map."""
    H, W = store.size
    grid = np.array([(0, 0), (W, 0), (W, H), (0, H)], np.float64)
    found = [grid @ np.array([(a, d), (b, e)]) + (c, f) for a, b, c, d, e, f in map(store.transform, tiles)]
    return np.array(found, np.float64).reshape(-1, 4, 2)


def overlap(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    """Depth in metres to which two convex polygons [4,2] overlap; 0 or less if they do not (separating axes)."""
    edges = np.concatenate([np.roll(shape, -1, axis=0) - shape for shape in (p, q)])
    normals = np.stack([-edges[:, 1], edges[:, 0]]) / np.hypot(edges[:, 0], edges[:, 1])
    over_p, over_q = p @ normals, q @ normals
    return float((np.minimum(over_p.max(0), over_q.max(0)) - np.maximum(over_p.min(0), over_q.min(0))).min())
