"""What the assets are given: the ledger, the runner and the notifier of this deployment; where small objects lie."""

import os
from pathlib import Path
from typing import Any, TypedDict

from assets.stage import Ledger, Notifier, Runner
from orchestration.deployment import deployment
from orchestration.ledger import DvcLedger
from orchestration.notify import Addresses
from orchestration.remote.ledger import RemoteLedger
from orchestration.runners import runner


class Resources(TypedDict):
    """The resources that every asset takes."""

    ledger: Ledger
    runner: Runner
    notifier: Notifier


def resources(root: Path) -> Resources:
    """The resources of a workspace.

    Raises:
        BadInput: STCLN_DEPLOYMENT names a file that is missing or is none, or its `results` do not fit the workspace.
    """
    place = deployment()
    remote = place.results == "remote"
    ledger = RemoteLedger(root, sees_disk=place.runner == "local") if remote else DvcLedger(root)
    return Resources(ledger=ledger, runner=runner(root, place), notifier=Addresses())


def small_objects() -> dict[str, Any]:
    """Where what an op hands on is kept: in the bucket that STCLN_BUCKET names, which all parts of a service see.

    Elsewhere it is Dagster's own directory. Results are none of these: they are DVC's.
    """
    bucket = os.environ.get("STCLN_BUCKET")
    if not bucket:
        return {}
    from dagster_aws.s3 import S3PickleIOManager, S3Resource  # half a second that only a service needs

    storage = S3Resource(endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))
    return {"io_manager": S3PickleIOManager(s3_resource=storage, s3_bucket=bucket, s3_prefix="objects")}
