"""A crop map of a cube or a season store, with any fine-tuned model: torch checkpoint or ONNX file.

The scene is read and predicted in rectangles, so memory does not grow with it. Windows lie on one grid over the whole
scene and every rectangle reads all windows that touch it, so the map does not depend on the rectangles.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray

from stcln import lineage
from stcln.data.lengths import choose
from stcln.data.readers.cube import Cube
from stcln.data.readers.reading import Findings, band_name, tidy
from stcln.data.store import SeasonStore
from stcln.errors import BadInput
from stcln.events import Reporter, Value
from stcln.geotiff import NODATA, Grid, create
from stcln.model.checkpoint import Card, load_classifier
from stcln.model.compute import Device, pick
from stcln.model.served import CARD_KEY, read_onnx
from stcln.model.windows import OVERLAP, Predictor, predict_tile, predictor, starts
from stcln.study import YEAR, Compute, Length

ALIGNED = 1e-3  # of a pixel


@dataclass(frozen=True)
class Piece:
    """A rectangle to predict, and the part of it to write.

    Attributes:
        reflectance: int16 [T,C,H,W], x 10,000, bands in the card's order.
        valid: bool [T,H,W].
        dates: datetime64[D] [T].
        at: Row and column in the map of the part to write.
        keep: That part, rows and columns of the piece.
    """

    reflectance: NDArray[np.int16]
    valid: NDArray[np.bool_]
    dates: NDArray[np.datetime64]
    at: tuple[int, int]
    keep: tuple[slice, slice]


@dataclass(frozen=True)
class Scene:
    """What is to be mapped: its grid, season, day 0 of positions, and its `count` pieces, read as they are taken."""

    grid: Grid
    season: str
    start: date
    count: int
    pieces: Iterator[Piece]


def predict(source: Path, model: Path, output: Path, reporter: Reporter, block: int = 256) -> dict[str, Value]:
    """Write a GeoTIFF of class and confidence, with card and lineage in its tags and a legend beside it.

    Args:
        source: A cube (NetCDF or Zarr) or a season store. A store's tiles become one mosaic.
        model: The directory of one fine-tuned model (a seed's), or an ONNX file that `export` wrote.
        output: The `.tif` to write.
        reporter: Is told every rectangle.
        block: Side in pixels of the rectangles a cube is mapped in; memory grows with its square.

    Returns:
        Height and width, the share of pixels mapped and their mean confidence in percent.

    Raises:
        BadInput: Source or model is missing or of another kind, a band of the model is missing, the tiles share no
            grid, no date is left, or the output is no `.tif` in an existing directory.
    """
    if output.suffix != ".tif":
        raise BadInput(output, "not the name of a GeoTIFF", "let it end in .tif")
    if not output.parent.is_dir():
        raise BadInput(output.parent, "no such directory", "make it, or name another place")
    network, card = _model(model)
    compute = pick(Compute(precision="float32"))  # the same map as the ONNX file's
    if _is_store(source):
        scene = _store_scene(source, card)
    else:  # a whole cube in one window, as `test_window: tile` says of tiles, would not fit into memory
        card = card.model_copy(update={"method": {**card.method, "test_window": "same"}})
        scene = _cube_scene(source, card, block)
    mapped, sure = 0, 0.0
    with create(output, scene.grid, card.classes, card.ignore, _tags(source, model, output, card)) as image:
        for done, piece in enumerate(scene.pieces, 1):
            classes, confidence = _map(piece, scene, network, card, compute)
            image.put(*piece.at, classes, confidence)
            mapped += int((classes != NODATA).sum())
            sure += float(confidence[classes != NODATA].sum())
            reporter.progress("rectangle", done, scene.count)
    pixels = scene.grid.height * scene.grid.width
    return {
        "map": str(output), "height": scene.grid.height, "width": scene.grid.width,
        "mapped": round(mapped / pixels, 4), "confidence": round(sure / max(mapped, 1), 2),
    }  # fmt: skip


def _model(path: Path) -> tuple[Predictor, Card]:
    if path.suffix == ".onnx":
        return read_onnx(path)
    if not path.exists():
        raise BadInput(path, "no model is here", "give a fine-tuned model's directory, or an ONNX file")
    network, card = load_classifier(path)
    return predictor(network, card, pick(Compute(precision="float32"))), card


def _map(
    piece: Piece, scene: Scene, network: Predictor, card: Card, compute: Device
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Class and confidence in percent, as evaluation takes them, of the part to keep; 255 where no date was seen."""
    kept = choose(piece.dates, Length(**card.length), scene.season)
    days = (piece.dates[kept] - np.datetime64(scene.start, "D")).astype(np.int64)
    positions = np.arange(len(kept)) if card.method.get("positions") == "index" else days
    seen = piece.valid[kept]
    looked = np.ones_like(seen) if card.method.get("clouds") == "seen" else seen
    scores = predict_tile(network, card, piece.reflectance[kept], looked, positions, compute, OVERLAP)
    y, x = piece.keep
    blind = ~seen[:, y, x].any(axis=0)
    classes = np.where(blind, NODATA, scores.argmax(0)[y, x]).astype(np.uint8)
    confidence = np.where(blind, NODATA, np.rint(scores.max(0)[y, x] * 100)).astype(np.uint8)
    return classes, confidence


def _is_store(source: Path) -> bool:
    if not source.exists():
        raise BadInput(source, "nothing is here", "give a cube (NetCDF or Zarr) or a season store")
    try:
        return source.is_dir() and "reflectance" in zarr.open_group(source, mode="r")
    except (FileNotFoundError, ValueError) as error:
        raise BadInput(source, f"not a Zarr store: {error}", "give a cube (NetCDF or Zarr) or a season store") from None


def _picked(source: Path, found: tuple[str, ...], card: Card) -> list[int]:
    names = [band_name(name) for name in found]
    if missing := [name for name in card.bands if band_name(name) not in names]:
        problem = f"it lacks {', '.join(missing)} of the model's bands"
        raise BadInput(source, problem, f"add them, or use a model trained on some of {', '.join(names)}")
    return [names.index(band_name(name)) for name in card.bands]


def _cube_scene(source: Path, card: Card, block: int) -> Scene:
    cube = Cube(source)
    if not YEAR.fullmatch(cube.season):
        raise BadInput(source, "its season is unknown", "set attribute `season` or put the year into the name")
    start = card.start(cube.season)
    H, W = cube.shape
    grid = Grid(cube.crs, (cube.resolution, 0.0, cube.left, 0.0, -cube.resolution, cube.top), H, W)
    corners = [(row, column) for row in range(0, H, block) for column in range(0, W, block)]
    picked = _picked(source, cube.bands, card)
    return Scene(grid, cube.season, start, len(corners), _cube_pieces(cube, card, picked, start, corners, block))


def _cube_pieces(
    cube: Cube, card: Card, picked: list[int], start: date, corners: list[tuple[int, int]], block: int
) -> Iterator[Piece]:
    for row, column in corners:
        rows, columns = (
            _span(at, min(at + block, side), side, card.window)
            for at, side in zip((row, column), cube.shape, strict=True)
        )
        findings = Findings()
        read = cube.read(slice(*rows), slice(*columns), picked, f"pixel {row},{column}", findings)
        dates, reflectance, valid = tidy(str(cube.path), "scene", start, (cube.dates, *read), findings)
        y, x = row - rows[0], column - columns[0]
        keep = slice(y, min(y + block, cube.shape[0] - rows[0])), slice(x, min(x + block, cube.shape[1] - columns[0]))
        yield Piece(reflectance, valid, dates, (row, column), keep)


def _span(first: int, last: int, side: int, window: int) -> tuple[int, int]:
    """From the first to behind the last pixel of the windows, of the whole scene's grid, that touch [first, last)."""
    touching = [at for at in starts(side, window, OVERLAP) if at < last and at + window > first]
    return touching[0], min(touching[-1] + window, side)


def _store_scene(source: Path, card: Card) -> Scene:
    store = SeasonStore.open(source)
    places = np.array([store.transform(tile) for tile in range(len(store))])
    a, b, _, d, e, _ = first = places[0]
    H, W = store.size
    left, top = places[:, 2].min(), places[:, 5].max()
    columns, rows = (places[:, 2] - left) / a, (places[:, 5] - top) / e
    shifts = np.abs([columns - columns.round(), rows - rows.round()]).max()
    if b or d or np.ptp(places[:, [0, 4]], axis=0).any() or shifts > ALIGNED:
        raise BadInput(source, "its tiles do not share one grid of pixels", "map a cube of the region instead")
    grid = Grid(
        store.crs, (first[0], 0.0, float(left), 0.0, first[4], float(top)),
        int(rows.max().round()) + H, int(columns.max().round()) + W,
    )  # fmt: skip
    corners = [(round(row), round(column)) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)]
    picked = _picked(source, store.bands, card)
    return Scene(grid, store.season, card.start(store.season), len(store), _store_pieces(store, picked, corners))


def _store_pieces(store: SeasonStore, picked: list[int], corners: list[tuple[int, int]]) -> Iterator[Piece]:
    for tile, corner in enumerate(corners):
        reflectance, valid, _ = store.read(tile)
        yield Piece(reflectance[:, picked], valid, store.dates(tile), corner, (slice(None), slice(None)))


def _tags(source: Path, model: Path, output: Path, card: Card) -> dict[str, str]:
    """Card and lineage; recorded paths are relative to the model's workspace, or to the output if it is in none."""
    resolved = model.resolve()
    home = next((p for p in resolved.parents if (p / "params.yaml").exists()), output.resolve().parent)
    inputs = {Path(os.path.relpath(path.resolve(), home)).as_posix(): path for path in (source, model)}
    made = lineage.record("predict", inputs, {}, "predict", None)
    return {
        lineage.TAG: json.dumps(made, sort_keys=True),
        CARD_KEY: json.dumps(card.model_dump(mode="json"), sort_keys=True),
    }
