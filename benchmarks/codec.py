"""How small and how fast reflectance is packed, by codec, on real Sentinel-2 patches of 32 pixels. Prints JSON lines.

    python benchmarks/codec.py ../shared/real/pastis/PASTIS

The patches are cut into the store's chunks. Speeds are of raw bytes, the best of the rounds, on one core.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import Blosc, Zstd
from numpy.typing import NDArray
from zarr.codecs import BloscCodec  # noqa: F401 - it turns the threads of blosc off

from stcln.data.store.arrays import BLOCK, CHUNK_DATES, CODEC, LEVEL

OURS = f"blosc {CODEC} {LEVEL}, shuffled, one block (the store's)"
CODECS = {
    OURS: Blosc(CODEC, LEVEL, Blosc.SHUFFLE, BLOCK),
    "blosc zstd 1, shuffled": Blosc("zstd", 1, Blosc.SHUFFLE),
    "blosc zstd 3, shuffled, one block": Blosc("zstd", 3, Blosc.SHUFFLE, BLOCK),
    "blosc zstd 1, bits shuffled": Blosc("zstd", 1, Blosc.BITSHUFFLE),
    "blosc lz4 5, shuffled": Blosc("lz4", 5, Blosc.SHUFFLE),
    "blosc lz4hc 5, shuffled": Blosc("lz4hc", 5, Blosc.SHUFFLE),
    "zstd 1": Zstd(1, checksum=True),
    "zstd 5": Zstd(5, checksum=True),
}
ROUNDS = 20


def chunks(patch: NDArray[np.int16]) -> list[NDArray[np.int16]]:
    """A patch [T,C,H,W] in chunks of so many dates as a store's, the last padded with 0."""
    found = []
    for at in range(0, len(patch), CHUNK_DATES):
        chunk = np.zeros((CHUNK_DATES, *patch.shape[1:]), np.int16)
        part = patch[at : at + CHUNK_DATES]
        chunk[: len(part)] = part
        found.append(chunk)
    return found


def best(job: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of the quickest run of a job, and what it gave."""
    times, found = [], None
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        found = job()
        times.append(time.perf_counter() - begun)
    return min(times), found


def main() -> None:
    """Every codec over all patches of a PASTIS tree."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("archive", type=Path)
    patches = [np.load(path) for path in sorted(asked.parse_args().archive.glob("DATA_S2/*.npy"))]
    raw = sum(patch.nbytes for patch in patches)
    cut = [chunk for patch in patches for chunk in chunks(patch)]
    into = np.empty_like(cut[0])
    for name, codec in CODECS.items():
        packing, packed = best(lambda codec=codec: [codec.encode(chunk) for chunk in cut])
        reading, _ = best(lambda codec=codec, packed=packed: [codec.decode(chunk, into) for chunk in packed])
        say = {"what": name, "times_smaller": raw / sum(map(len, packed))}
        speeds = {"packed_mb_per_second": raw / packing / 1e6, "read_mb_per_second": raw / reading / 1e6}
        print(json.dumps({key: round(v, 2) if isinstance(v, float) else v for key, v in (say | speeds).items()}))


if __name__ == "__main__":
    main()
