"""The bytes of a chunk depend on its values only."""

import subprocess
import sys

ENCODED_UNDER_LOAD = """
import threading
import numpy as np
import zarr.codecs
from numcodecs import blosc
blosc.use_threads = None  # its default, whatever zarr makes of it
from stcln.data.store.packed import coded

values = np.random.default_rng(7).integers(0, 9000, (64, 13, 32, 32)).astype(np.int16)
assert values.nbytes > 1 << 20, "a chunk of several blocks"
found, end = set(), threading.Event()
large = np.zeros(1 << 22)
def load():
    while not end.is_set():
        np.sort(large)
def encode():
    for _ in range(60):
        found.update(coded(values))
busy = [threading.Thread(target=load, daemon=True) for _ in range(3)]
for thread in busy:
    thread.start()
encode()
worker = threading.Thread(target=encode)
worker.start()
worker.join()
end.set()
print(len(found))
"""


def test_a_chunk_of_several_blocks_has_the_same_bytes_under_load_in_every_thread() -> None:
    done = subprocess.run([sys.executable, "-c", ENCODED_UNDER_LOAD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
