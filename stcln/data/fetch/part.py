"""A file that is arriving: written at any place from any thread, hashed from the front while bytes come."""

import hashlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

from stcln.data.fetch import journal as journals
from stcln.data.fetch.journal import Journal
from stcln.data.fetch.line import Stopped
from stcln.errors import REMEDIES, BadInput

BITE = 1 << 24  # bytes hashed at once
EVERY = 1.0  # seconds between two entries in the journal: what a kill may cost
sync = getattr(os, "fdatasync", os.fsync)  # not on every system


class Part:
    """The bytes of a file in hand; a sparse file of its full size, and a journal of what of it is filled.

    Args:
        path: The file.
        at: The journal's file.
        journal: What is in hand; its `held` bytes are taken as good.
    """

    def __init__(self, path: Path, at: Path, journal: Journal) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.at, self.journal = path, at, journal
        self.held, self.lock = journal.held, threading.Lock()
        self.md5, self.hashed, self.entered = hashlib.md5(), 0, time.monotonic()
        self.file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        self.open = True
        os.ftruncate(self.file, journal.size or 0)

    def write(self, at: int, chunk: bytes) -> None:
        """Put bytes in their place.

        Raises:
            BadInput: The disk refuses.
            Stopped: The file is closed: nobody waits for these bytes any more.
        """
        with self.lock:
            if not self.open:
                raise Stopped
            try:
                written = 0
                while written < len(chunk):
                    written += os.pwrite(self.file, chunk[written:] if written else chunk, at + written)
            except OSError as error:
                remedy = REMEDIES.get(error.errno or 0, "check the disk")
                raise BadInput(self.path, str(error.strerror), remedy) from None
            self.held = journals.joined(self.held, (at, at + len(chunk)))

    @property
    def size(self) -> int:
        """Bytes in hand."""
        return sum(end - begin for begin, end in self.held)

    def watch(self) -> bool:
        """Hash on for a moment and keep the journal; true if there is more to hash already."""
        if time.monotonic() - self.entered > EVERY:
            self.enter()
        return self._hash(BITE)

    def enter(self) -> None:
        """Write down what is in hand, once it is safe on the disk."""
        held = self.held
        sync(self.file)
        journals.save(self.at, replace(self.journal, held=held))
        self.entered = time.monotonic()

    def finish(self) -> Journal:
        """Hash the rest, and write down that all is there."""
        while self._hash(BITE):
            pass
        self.journal = replace(self.journal, held=self.held, md5=self.md5.hexdigest())
        self.enter()
        return self.journal

    def close(self) -> None:
        """Let nobody write any more."""
        with self.lock:
            self.open = False
            os.close(self.file)

    def _hash(self, most: int) -> bool:
        front = self.held[0][1] if self.held and not self.held[0][0] else 0
        if self.hashed < front:
            bite = os.pread(self.file, min(most, front - self.hashed), self.hashed)
            self.md5.update(bite)
            self.hashed += len(bite)
        return self.hashed < front
