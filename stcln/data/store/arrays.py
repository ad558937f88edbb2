"""How the arrays of a season store are cut and coded; the same for who writes chunks and who describes them to Zarr."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import zarr
from numcodecs import blosc
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from stcln.data.tile import NODATA

blosc.use_threads = False  # its threads would write a chunk's blocks in the order they end: other bytes in each run

# Tall and narrow: a window of 32 pixels anywhere in a patch touches 9 chunks, 2.2 times its own bytes; of chunks of 16
# dates and 32 pixels, as small and packed as fast, it touches 12, 3.9 times its bytes. Dates past the last are 0.
CHUNK_DATES, CHUNK_SIDE = 64, 16
WHOLE = 32  # a tile up to this side is one chunk: it is read whole, in half the time of four
# By benchmarks/codec.py on real Sentinel-2 2.2 times smaller; packed five times and read twice as fast as zstd 5 alone.
# A block of 512 KiB holds a patch's chunk whole. The checksum finds a flipped bit at reading.
CODEC, LEVEL, BLOCK = "zstd", 1, 1 << 19
COMPRESSION = (BloscCodec(cname=CODEC, clevel=LEVEL, shuffle="shuffle", blocksize=BLOCK), Crc32cCodec())
SHARD_BYTES, SHARD_DATES = 1 << 28, 64  # of a shard with so many dates; DVC slows with the number of files
ABSENT = 2**64 - 1  # in a shard's index, in place of offset and length of a chunk that was never written


def parts(side: int) -> tuple[int, int]:
    """Number and length of the equal chunks, as few as may be, that cover a side; the last may reach over it."""
    number = 1 if side <= WHOLE else -(-side // CHUNK_SIDE)
    return number, -(-side // number)


def tiles_of_a_shard(shape: Sequence[int]) -> int:
    """So many tiles, with reflectance of a shape C, H, W, lie in one file."""
    return max(1, SHARD_BYTES // (SHARD_DATES * 2 * math.prod(shape)))


def describe(
    group: zarr.Group, name: str, kind: str, shape: Sequence[int], tiles: int, attributes: Mapping[str, Any]
) -> None:
    """Write the metadata of a sharded array, and no chunk.

    Args:
        group: The store's.
        name: `label`, `reflectance`, `valid`, or a radar orbit.
        kind: Type of its values.
        shape: [tile,y,x], [tile,time,y,x] or [tile,time,band,y,x]; a shard holds all dates.
        tiles: Of a shard.
        attributes: Of the array.
    """
    *lead, (rows, h), (columns, w) = *shape[1:-2], parts(shape[-2]), parts(shape[-1])
    own = "" if name in ("label", "reflectance", "valid") else f"{name}_"
    dims = ["tile", *[f"{own}time", f"{own}band"][: len(lead)], "y", "x"]
    dates, bands = [CHUNK_DATES][: len(lead)], lead[1:]
    steps = [max(1, -(-lead[0] // CHUNK_DATES)) * CHUNK_DATES] if lead else []
    group.create_array(
        name, shape=tuple(shape), dtype=kind, chunks=(1, *dates, *bands, h, w),
        shards=(tiles, *steps, *bands, rows * h, columns * w), compressors=COMPRESSION,
        fill_value=NODATA if own else 0, dimension_names=dims, attributes=dict(attributes),
    )  # fmt: skip


def put(
    group: zarr.Group, name: str, values: NDArray[Any], dims: Sequence[str], fill: int | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Write a small array, in one chunk."""
    array = group.create_array(
        name, shape=values.shape, dtype=values.dtype, chunks=values.shape, fill_value=fill,
        dimension_names=list(dims), attributes=dict(attributes or {}), compressors=COMPRESSION,
    )  # fmt: skip
    array[...] = values
