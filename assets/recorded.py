"""What Dagster has recorded of a step: whether its checks let the version that stands pass."""

import dagster as dg
from dagster._core.definitions.data_version import extract_data_version_from_entry

from assets.plan import Step


def recorded_well(step: Step, version: str, instance: dg.DagsterInstance, run_id: str = "") -> bool:
    """Whether a run that ended well has recorded this version of a step's output, so that its checks let it pass.

    Args:
        step: The step.
        version: Of its output.
        instance: Where runs are recorded.
        run_id: The run that asks: what it has made has passed too, since a check that blocks would have ended it.
    """
    record = instance.get_latest_data_version_record(step.asset, partition_key=step.partition)
    if record is None or extract_data_version_from_entry(record.event_log_entry) != dg.DataVersion(version):
        return False
    run = instance.get_run_by_id(record.run_id)
    return run is not None and (run.is_success or run.run_id == run_id)
