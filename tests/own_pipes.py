"""What Dagster tells a step that it starts, for steps that a test starts."""

from pathlib import Path

from dagster_pipes import encode_env_var


def pipes_to(messages: Path) -> dict[str, str]:
    """The variables by which Dagster tells a step where its messages go."""
    by_key = ("code_version_by_asset_key", "provenance_by_asset_key")
    partition = ("partition_key", "partition_key_range", "partition_time_window")
    told = dict.fromkeys(("asset_keys", *by_key, *partition, "job_name"))
    context = {"data": {**told, "run_id": "a-run", "retry_number": 0, "extras": {}}}
    return {
        "DAGSTER_PIPES_CONTEXT": encode_env_var(context),
        "DAGSTER_PIPES_MESSAGES": encode_env_var({"path": str(messages)}),
    }
