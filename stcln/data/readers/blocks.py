"""How a cube's bytes are read: the file opened, its chunks' sizes, and tiles in blocks that use every chunk once.

What the variables mean is `cube`'s business.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import netCDF4
import numpy as np
import xarray as xr
import zarr
from upath import UPath

from stcln.errors import BadInput

BUDGET = 256 << 20
"""Bytes of one block as stored, at most: with the rest of a worker well below 1 GB."""
GOAL = 64 << 20
"""Bytes up to which a block takes in further chunks: more would leave other workers without blocks."""
LARGEST = 128 << 20
"""Bytes of the largest chunk; one must fit beside the block while it is decoded."""
CHUNK_CACHE = 1 << 20
"""Bytes of chunks that HDF5 keeps of every variable: a block needs none of them again."""
REMOTE_CACHE = {"cache_type": "blockcache", "block_size": 1 << 20, "cache_options": {"maxblocks": 32}}

Place = tuple[int, int]
"""Row and column of a tile's north-west pixel."""


def open_dataset(path: Path | UPath) -> xr.Dataset:
    """Open a NetCDF file or Zarr store lazily, values as stored; from a bucket through the environment's credentials.

    Raises:
        Exception: Whatever the libraries raise on what is neither.
    """
    if path.is_dir():
        options = None if isinstance(path, Path) else dict(path.storage_options)
        with warnings.catch_warnings():  # a store without consolidated metadata opens too
            warnings.simplefilter("ignore", RuntimeWarning)
            return xr.open_dataset(
                str(path), engine="zarr", mask_and_scale=False, chunks=None, cache=False, storage_options=options
            )
    if not isinstance(path, Path):
        source = path.fs.open(path.path, **REMOTE_CACHE)
        return xr.open_dataset(source, engine="h5netcdf", mask_and_scale=False, chunks=None, cache=False)
    before = netCDF4.get_chunk_cache()
    netCDF4.set_chunk_cache(CHUNK_CACHE)  # of every variable of the file that is opened
    try:
        return xr.open_dataset(path, engine="netcdf4", mask_and_scale=False, chunks=None, cache=False)
    finally:
        netCDF4.set_chunk_cache(*before)


def chunk_of(variable: xr.DataArray) -> dict[str, int]:
    """Size of a variable's chunks by dimension; a file without chunks is read by rows of a date."""
    found = variable.encoding.get("chunks") or variable.encoding.get("chunksizes")
    if found:
        return {str(name): int(size) for name, size in zip(variable.dims, found, strict=True)}
    return {str(name): 1 for name in variable.dims} | {"x": variable.sizes["x"]}


def check_chunks(where: str, variable: xr.DataArray) -> None:
    """Refuse chunks that do not fit into memory beside the rest.

    Raises:
        BadInput: One is larger than `LARGEST`.
    """
    sizes = chunk_of(variable)
    if (size := int(np.prod([*sizes.values()])) * variable.dtype.itemsize) > LARGEST:
        problem = f"its chunks of {sizes} hold {size >> 20} MiB, more than {LARGEST >> 20}"
        raise BadInput(where, problem, "write it in smaller ones, such as 64 x 64 pixels of all dates")


@contextmanager
def few_at_once(variable: xr.DataArray) -> Iterator[None]:
    """Let Zarr decode as many chunks at once as fit into memory."""
    size = int(np.prod([*chunk_of(variable).values()])) * variable.dtype.itemsize
    with zarr.config.set({"async.concurrency": int(np.clip(LARGEST // max(size, 1), 1, 10))}):
        yield


def group(places: Mapping[str, Place], side: int, variables: Sequence[xr.DataArray], south_up: bool) -> list[list[str]]:
    """Tiles in blocks that are read at once: a whole chunk if it fits into `BUDGET`, several up to `GOAL`.

    A tile is of the block in which its north-west pixel lies, so a chunk is read by one block, or, where tiles lie
    across its edge, by that block's neighbours as well. Chunks beyond the budget are read once a block of rows.

    Args:
        places: Tiles in the order they get inside a block.
        side: Of a tile, in pixels.
        variables: What is read of every block, with dimensions y and x.
        south_up: Whether row 0 of the file is the southernmost.

    Returns:
        Every tile once.
    """
    sizes = [chunk_of(variable) for variable in variables]
    column = sum(int(v.sizes.get("time", 1)) * v.dtype.itemsize for v in variables)
    H, W = (variables[0].sizes[axis] for axis in ("y", "x"))
    chunk = (max(size["y"] for size in sizes), max(size["x"] for size in sizes))
    rows, columns = _extent(BUDGET // column, min(GOAL, BUDGET) // column, side, chunk, (H, W))
    found: dict[Place, list[str]] = {}
    for name, (row, left) in places.items():
        found.setdefault(((H - 1 - row if south_up else row) // rows, left // columns), []).append(name)
    return [*found.values()]


def _extent(pixels: int, goal: int, side: int, chunk: Place, size: Place) -> Place:
    """Height and width in pixels of the blocks: whole chunks, as many as the goal is, wide before high; else a part."""
    spill = [0 if step % side == 0 else side - 1 for step in chunk]
    height, width = (min(step, whole) for step, whole in zip(chunk, size, strict=True))
    if (height + spill[0]) * (width + spill[1]) > pixels:
        height = max(side, pixels // (width + side) // side * side)
        return height, max(side, min(width, pixels // height // side * side))
    width *= max(1, min(-(-size[1] // width), (goal // (height + spill[0]) - spill[1]) // width))
    if width >= size[1]:
        height *= max(1, min(-(-size[0] // height), (goal // (width + spill[1]) - spill[0]) // height))
    return height, width
