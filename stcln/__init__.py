"""STCLN: crop mapping from satellite image time series with few labels.

The method alone: data, network, training, evaluation, reports. Nothing here knows Dagster or DVC.
"""

__version__ = "0.2.0"
