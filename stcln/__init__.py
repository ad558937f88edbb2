"""STCLN: crop mapping from satellite image time series with few labels.

The method alone: data, network, training, evaluation, reports. Nothing here knows Dagster or DVC.
"""

import os

# Large pages for torch's large tensors: a CPU's memory comes in a quarter of the time, see benchmarks/README.md.
# torch reads it at its first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.2.0"
