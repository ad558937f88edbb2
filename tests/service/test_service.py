"""A service whose parts are killed while it works: no result is lost or computed twice, every run ends as it was."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import yaml
from own_service import BUCKET, CHECKOUT, Service, wait

pytestmark = pytest.mark.orchestration

ENDS = ("SUCCESS", "FAILURE", "CANCELED")
MADE = """query($key: AssetKeyInput!) {assetNodeOrError(assetKey: $key) {... on AssetNode {
  assetMaterializations {runId metadataEntries {label ... on BoolMetadataEntry {boolValue}}}
}}}"""


def test_the_service_is_the_instance_of_one_machine_but_for_where_it_stores() -> None:
    one, service = (
        yaml.safe_load((CHECKOUT / "infra" / name).read_text()) for name in ("dagster.yaml", "service/dagster.yaml")
    )
    assert {name: part for name, part in service.items() if name not in ("storage", "compute_logs")} == one


def postgres(service: Service) -> None:
    service.postgres.kill()
    service.postgres.start()


def s3(service: Service) -> None:
    service.s3.kill()  # until the run has ended


def daemon(service: Service) -> None:
    service.kill_one("daemon")
    service.start_one("daemon")


def webserver(service: Service) -> None:
    service.kill_one("webserver")
    service.start_one("webserver")


@pytest.mark.parametrize(
    ("killed", "asset", "partition", "stage"),
    [
        (webserver, "raw_archive", None, "fetch"),
        (daemon, "season_store", "2018", "prepare@2018"),
        (s3, "pretrained_encoder", None, "pretrain"),
        (postgres, "finetuned_scratch", "full|2018", "scratch@2018-full-scratch"),
    ],
)
def test_a_run_ends_well_though_a_part_is_killed_in_its_midst(
    service: Service, killed: Callable[[Service], None], asset: str, partition: str | None, stage: str
) -> None:
    service.add_season("2018")
    run = service.launch(asset, partition)
    wait(lambda: service.steps(run) > 0, f"the step of {asset} has begun")
    killed(service)
    wait(lambda: service.status(run) in ENDS, f"the run of {asset} has ended")
    if killed is postgres and service.status(run) == "FAILURE":  # what happened could not be written: true, and told
        run = service.launch(asset, partition)
        wait(lambda: service.status(run) in ENDS, f"the second run of {asset} has ended")
    assert service.status(run) == "SUCCESS"
    made = service.ask(MADE, key={"path": [asset]})["assetNodeOrError"]["assetMaterializations"]
    computed = [one for one in made if {"label": "computed", "boolValue": True} in one["metadataEntries"]]
    assert made and (len(computed) == 1 or killed is postgres)  # the sensor may have told of the commit first
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", stage], cwd=service.root, capture_output=True, text=True, check=True
    )
    assert "up to date" in done.stdout
    if not service.s3.alive:
        service.s3.start()


def test_runs_are_in_postgres_and_what_steps_print_is_in_s3(service: Service) -> None:
    assert not [*service.home.rglob("*.db")]
    run = service.launch("raw_archive")
    wait(lambda: service.status(run) in ENDS, "the run has ended")
    printed = service.s3.system.glob(f"{BUCKET}/logs/storage/{run}/compute_logs/*.err")
    assert printed and any(service.s3.system.size(path) for path in printed)
