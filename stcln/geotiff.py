"""A crop map on disk: a GeoTIFF of class and confidence, its colours and names inside, and a legend that QGIS shows."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

from stcln import palette

NODATA = 255
SIDE = 256  # of the file's internal tiles


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a map lie.

    Attributes:
        crs: `EPSG:<code>`.
        transform: Affine coefficients (a, b, c, d, e, f) of the north-west corner.
        height, width: Pixels.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    height: int
    width: int


class Map:
    """A map that is being written, a rectangle at a time. Where nothing is written, it has no data."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def put(self, row: int, column: int, classes: NDArray[np.uint8], confidence: NDArray[np.uint8]) -> None:
        """Write classes and confidence in percent, both [H,W], with their north-west pixel at (row, column)."""
        window = Window(column, row, classes.shape[1], classes.shape[0])
        self._file.write(np.stack([classes, confidence]), window=window)


@contextmanager
def create(
    path: Path, grid: Grid, classes: Sequence[str], ignore: Sequence[int], tags: Mapping[str, str]
) -> Iterator[Map]:
    """Yield a map to write; with its sidecars it takes its name when the block ends without an error.

    Band 1 is the class (uint8, colour table, names), band 2 the confidence in percent; nodata is 255.
    Beside it: `<name>.qml`, the style QGIS takes by itself, and `<name>.tif.aux.xml`, the class names for GDAL.
    """
    part = path.with_name(f".{path.stem}.part.tif")
    profile = {
        "driver": "GTiff", "dtype": "uint8", "count": 2, "nodata": NODATA, "crs": grid.crs, "height": grid.height,
        "width": grid.width, "transform": rasterio.Affine(*grid.transform), "tiled": True, "blockxsize": SIDE,
        "blockysize": SIDE, "compress": "deflate", "bigtiff": "if_safer", "sparse_ok": True, "photometric": "palette",
        "alpha": "no",
    }  # fmt: skip
    colours = palette.of_classes(len(classes), ignore)
    try:
        with rasterio.open(part, "w", **profile) as file:
            file.write_colormap(1, {k: (*palette.rgb(colour), 255) for k, colour in enumerate(colours)})
            file.descriptions = ("class", "confidence, percent")
            file.update_tags(**tags, stcln_classes=json.dumps(list(classes)))
            yield Map(file)
        path.with_suffix(".qml").write_bytes(_style(classes, colours))
        path.with_name(f"{path.name}.aux.xml").write_bytes(_names(classes))
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def _style(classes: Sequence[str], colours: Sequence[str]) -> bytes:
    """QGIS's style of band 1: a colour and a label a class."""
    root = ElementTree.Element("qgis", version="3.0", styleCategories="Symbology")
    renderer = ElementTree.SubElement(
        ElementTree.SubElement(root, "pipe"), "rasterrenderer", type="paletted", band="1", opacity="1", alphaBand="-1"
    )
    entries = ElementTree.SubElement(renderer, "colorPalette")
    for value, (name, colour) in enumerate(zip(classes, colours, strict=True)):
        ElementTree.SubElement(entries, "paletteEntry", value=str(value), color=colour, label=name, alpha="255")
    return _xml(root, '<!DOCTYPE qgis PUBLIC "http://mrcc.com/qgis.dtd" "SYSTEM">\n')


def _names(classes: Sequence[str]) -> bytes:
    """GDAL's sidecar: the category names of band 1."""
    root = ElementTree.Element("PAMDataset")
    names = ElementTree.SubElement(ElementTree.SubElement(root, "PAMRasterBand", band="1"), "CategoryNames")
    for name in classes:
        ElementTree.SubElement(names, "Category").text = name
    return _xml(root, "")


def _xml(root: ElementTree.Element, head: str) -> bytes:
    ElementTree.indent(root, " ")
    return (head + ElementTree.tostring(root, encoding="unicode") + "\n").encode()
