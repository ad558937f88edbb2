"""The files of a store on a server, read by ranges, and the bounded local cache of what was read.

Which ranges make a window is `chunks`' business.
"""

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from upath import UPath

from stcln.data.store.chunks import Bytes, Range, joined, split
from stcln.errors import refusals_of_a_server, refusals_of_the_disk


class Ring:
    """The bytes read last, in a file that is gone with the process, however that ends.

    The oldest bytes make room: in an epoch every window is read once, so none is likelier to be asked for again.

    Args:
        size: Most bytes to hold. It is lowered to half of what the disk has free, and halved when it fills up.
    """

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        with refusals_of_the_disk():
            self._file = tempfile.TemporaryFile(prefix="stcln-", buffering=0)  # noqa: SIM115 - closed with the ring
            disk = os.fstatvfs(self._file.fileno())
        self.size = min(size, disk.f_bavail * disk.f_frsize // 2)
        # From the oldest on, which is the next behind `_end` in the file; a dict would pass over all it has forgotten.
        self._places: OrderedDict[Range, int] = OrderedDict()
        self._end = 0

    def get(self, key: Range) -> Bytes | None:
        """The bytes of a range, if they are still held."""
        with self._lock:
            if key not in self._places:
                return None
            return np.frombuffer(os.pread(self._file.fileno(), key[2] - key[1], self._places[key]), np.uint8)

    def put(self, key: Range, value: Bytes) -> None:
        """Hold the bytes of a range, unless they are more than all that may be held."""
        with self._lock:
            if key in self._places or len(value) > self.size:
                return
            if self._end + len(value) > self.size:
                self._free(self.size)
                self._end = 0
            self._free(self._end + len(value))
            if not self._written(value):
                self._shrink()
                return
            self._places[key] = self._end
            self._end += len(value)

    def _free(self, end: int) -> None:
        """Forget what begins between the newest bytes and `end`."""
        while self._places:
            oldest = next(iter(self._places))
            if not self._end <= self._places[oldest] < end:
                return
            del self._places[oldest]

    def _written(self, value: Bytes) -> bool:
        """Whether the disk took the bytes, all of them."""
        try:
            return os.pwrite(self._file.fileno(), value.data, self._end) == len(value)
        except OSError:  # what cannot be held is read from the server again
            return False

    def _shrink(self) -> None:
        """Begin anew with half of what the disk took, so that others find space there."""
        self.size, self._end = self._end // 2, 0
        self._places.clear()
        os.truncate(self._file.fileno(), 0)


class Remote:
    """The files of a store below an fsspec address.

    Args:
        root: The store.
        cache: Most bytes of it to hold in the directory for temporary files (TMPDIR), see `Ring`.

    Raises:
        NoAnswer: In every method, where the server refuses or is gone.
    """

    def __init__(self, root: UPath, cache: int) -> None:
        self.root, self._ring = root, Ring(cache)

    def sizes(self) -> dict[str, int]:
        """Bytes of every file, by its name inside the store, from one listing."""
        with refusals_of_a_server(str(self.root)):
            found = self.root.fs.find(self.root.path, detail=True)
        return {_inside(key, self.root.path): int(info["size"]) for key, info in found.items()}

    def read(self, ranges: Sequence[Range]) -> list[Bytes]:
        """The bytes of some ranges: those not held are asked for all at once, and held."""
        known = {one: held for one in ranges if (held := self._ring.get(one)) is not None}
        runs = joined(one for one in ranges if one not in known)
        for run, raw in zip(runs, self._ask([(run[0][0], run[0][1], run[-1][2]) for run in runs]), strict=True):
            for one, part in zip(run, split(run, raw), strict=True):
                known[one] = part
                self._ring.put(one, part)
        return [known[one] for one in ranges]

    def _ask(self, ranges: Sequence[Range]) -> list[bytes]:
        paths = [f"{self.root.path.rstrip('/')}/{name}" for name, _, _ in ranges]
        starts, ends = [start for _, start, _ in ranges], [end for _, _, end in ranges]
        with refusals_of_a_server(str(self.root)):
            answers: list[bytes] = self.root.fs.cat_ranges(paths, starts, ends, on_error="raise")
        return answers


def _inside(key: str, root: str) -> str:
    return key.lstrip("/").removeprefix(root.strip("/")).lstrip("/")
