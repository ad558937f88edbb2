"""The code location of `benchmarks/orchestration.py queue`: a toy workspace's, and a sensor that asks for many runs.

STCLN_WORKSPACE names the workspace; its `ask.json` the partitions, each asked for several times over.
"""

import json
from pathlib import Path

import dagster as dg
from toy_workspace import Toy

from orchestration.definitions import build_defs
from orchestration.home import workspace_root


def location() -> dg.Definitions:
    """All of the workspace's definitions, and the sensor."""
    root = workspace_root()

    @dg.sensor(target=dg.AssetSelection.groups("models"), default_status=dg.DefaultSensorStatus.RUNNING)
    def crowd(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        if context.cursor:
            return dg.SkipReason("all is asked for")
        runs = [
            dg.RunRequest(run_key=str(number), asset_selection=[dg.AssetKey(asset)], partition_key=partition)
            for number, (asset, partition) in enumerate(json.loads(Path(root, "ask.json").read_text()))
        ]
        return dg.SensorResult(run_requests=runs, cursor="asked")

    return dg.Definitions.merge(build_defs(root, Toy(root).resources), dg.Definitions(sensors=[crowd]))
