"""The service whose parts are killed while it works: no result is lost or computed twice, every run ends as it was."""

import shutil
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import pytest
import yaml
from own_podman import CHECKOUT, podman
from own_service import Service, given_away, wait
from seaweed import weed

from orchestration.deployment import Deployment

pytestmark = [pytest.mark.orchestration, pytest.mark.long]

ENDS = ("SUCCESS", "FAILURE", "CANCELED")
MADE = """query($key: AssetKeyInput!) {assetNodeOrError(assetKey: $key) {... on AssetNode {
  assetMaterializations {runId metadataEntries {label ... on BoolMetadataEntry {boolValue}}}
}}}"""
MARIA = ("maria", "a long password")
USERS = "query($run: ID!) {runOrError(runId: $run) {... on Run {tags {key value}}}}"
LEFT = "{runsOrError {... on Runs {results {status}}}}"


def test_the_service_is_the_instance_of_one_machine_but_for_where_it_stores() -> None:
    one, service = (
        yaml.safe_load((CHECKOUT / "infra" / name).read_text()) for name in ("dagster.yaml", "service/dagster.yaml")
    )
    assert {name: part for name, part in service.items() if name not in ("storage", "compute_logs")} == one


@pytest.fixture(scope="module")
def service(image: str, images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """All of it, up."""
    import real_study

    if not shutil.which("caddy"):
        pytest.skip("no caddy here: tests/install gets it")
    weed()
    top = tmp_path_factory.mktemp("service")
    (top / "workspace").mkdir()
    real_study.make(top / "workspace")
    given_away(top / "workspace")
    service = Service(top, top / "workspace", images["service"])
    service.admit(*MARIA)
    try:
        service.up()
        wait(service.ready, "the assets are loaded")
        service.add_season("2018")
        yield service
    finally:
        service.down("--volumes")


def part(name: str) -> Callable[[Service], None]:
    return lambda service: service.kill(name)


@pytest.mark.parametrize(
    ("kill", "asset", "partition", "stage"),
    [
        (part("webserver"), "raw_archive", None, "fetch"),
        (part("daemon"), "season_store", "2018", "prepare@2018"),
        (part("s3"), "pretrained_encoder", None, "pretrain"),
        (part("postgres"), "finetuned_scratch", "full|2018", "scratch@2018-full-scratch"),
        (Service.kill_worker, "finetuned_pretrained", "full|2018", "finetune@2018-full-pretrained"),
        (part("code"), "evaluation_scratch", "full|2018", "evaluate-scratch@2018-full-scratch"),
    ],
    ids=["webserver", "daemon", "s3", "postgres", "worker", "code"],
)
def test_a_run_ends_well_though_a_part_is_killed_in_its_midst(
    service: Service, kill: Callable[[Service], None], asset: str, partition: str | None, stage: str
) -> None:
    run = service.launch(asset, partition)
    wait(lambda: bool(service.workers()), f"the step of {asset} runs")
    kill(service)
    try:
        wait(lambda: service.status(run) == "SUCCESS", f"{asset} is made")
    except AssertionError:  # what happened could not be written while Postgres was away: true, and told
        assert stage.startswith("scratch") and service.status(run) == "FAILURE"
        run = service.launch(asset, partition)
        wait(lambda: service.status(run) == "SUCCESS", f"{asset} is made")
    made = service.ask(MADE, key={"path": [asset]})["assetNodeOrError"]["assetMaterializations"]
    computed = [one for one in made if {"label": "computed", "boolValue": True} in one["metadataEntries"]]
    assert made and len(computed) <= 1  # the sensor may have told of the commit first
    assert "up to date" in service.run_in("code", "dvc", "status", stage)


def test_runs_are_in_postgres_and_what_steps_print_is_in_s3(service: Service) -> None:
    run = service.launch("raw_archive")
    wait(lambda: service.status(run) in ENDS, "the run has ended")
    look = f"import s3fs; print(s3fs.S3FileSystem().glob('dagster/logs/storage/{run}/compute_logs/*.err'))"
    assert ".err" in service.run_in("code", "python", "-c", look)
    assert service.run_in("code", "ls", "/var/lib/dagster") == "dagster.yaml\n"


@pytest.mark.parametrize(("who", "name"), [(None, "stcln"), (MARIA, "maria")])
def test_a_run_is_tagged_with_the_name_given_at_the_door_whatever_the_browser_says(
    service: Service, who: tuple[str, str] | None, name: str
) -> None:
    run = service.launch("raw_archive", who=who)
    wait(lambda: service.status(run) in ENDS, "the run has ended")
    tags = service.ask(USERS, run=run)["runOrError"]["tags"]
    assert [tag["value"] for tag in tags if tag["key"] == "user"] == [name]
    assert f'"user_id":"{name}"' in service.printed("proxy")  # who asked for what


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [
        ("graphql?query={version}", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 403),
        ("graphql?query={version}", {"sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"}, 403),
        ("report_asset_check/champion", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
        ("assets", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}, 200),
        ("graphql?query={version}", {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}, 200),
    ],
)
def test_a_page_of_another_site_may_link_here_and_ask_for_nothing(
    service: Service, path: str, sent: dict[str, str], status: int
) -> None:
    try:
        found = service.open(path, headers=sent).status
    except urllib.error.HTTPError as error:
        found = error.code
    assert found == status


def test_nobody_gets_in_without_the_password_and_the_webserver_has_no_port_of_its_own(service: Service) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://127.0.0.1:{service.port}/server_info")
    ports = {part: podman("port", service.container(part)).strip() for part in ("webserver", "code", "postgres", "s3")}
    assert set(ports.values()) == {""}
    assert stat.S_IMODE((service.infra / ".env").stat().st_mode) == 0o600


def test_after_it_was_down_a_training_goes_on_and_steps_can_run_in_containers_of_their_own(
    service: Service, images: dict[str, str], daemon: str
) -> None:
    service.edit("pretrain", epochs=60)
    left = service.launch("pretrained_encoder")
    wait(lambda: bool(service.workers()), "it trains")
    before = len(service.ask(LEFT)["runsOrError"]["results"])
    service.down()
    service.steps_in_containers(Deployment(runner="container", image=images["step"]), daemon)
    assert "Wrote" not in service.up()
    wait(service.ready, "the assets are loaded")
    assert len(service.ask(LEFT)["runsOrError"]["results"]) >= before > 0
    wait(lambda: service.status(left) == "SUCCESS", "the training went on and ended")
    run = service.launch("evaluation_pretrained", "full|2018")
    wait(lambda: "stcln-evaluate-2018-full-pretrained" in podman("ps"), "the step's container runs")
    wait(lambda: service.status(run) in ENDS, "the run has ended")
    assert service.status(run) == "SUCCESS"
