"""STCLN: crop mapping from satellite image time series with few labels.

The method alone: data, network, training, evaluation, reports. Nothing here knows Dagster or DVC.
"""

import os

# Large pages for torch's large tensors: without them a quarter of a training step on a CPU goes into getting memory.
# torch reads it at its first allocation.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

__version__ = "0.2.0"
