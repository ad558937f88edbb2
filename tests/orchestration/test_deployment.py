"""The deployment's file: what a stage may take, and how a faulty file is told."""

import re
import tomllib
from pathlib import Path

import pytest

from orchestration.deployment import Deployment, Limits, deployment
from orchestration.resources import resources
from orchestration.runners.container import ContainerRunner
from orchestration.runners.local import LocalRunner
from stcln.errors import BadInput

pytestmark = pytest.mark.orchestration
CHECKOUT = Path(__file__).parents[2]
EXAMPLE = CHECKOUT / "infra/deployment.yaml"
PODS = "runner: kubernetes\nimage: a\ncluster: {namespace: n"


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "deployment.yaml"
    monkeypatch.setenv("STCLN_DEPLOYMENT", str(path))
    return path


def test_without_a_file_steps_are_processes_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STCLN_DEPLOYMENT", raising=False)
    assert deployment() == Deployment()
    assert isinstance(resources(tmp_path)["runner"], LocalRunner)


def test_of_the_limits_that_match_a_stage_the_later_counts(tmp_path: Path, named: Path) -> None:
    named.write_text(EXAMPLE.read_text())
    found = deployment()
    assert isinstance(resources(tmp_path)["runner"], ContainerRunner)
    assert found.limits_of("prepare@2019") == Limits(cpus=2, memory="4Gi")
    assert found.limits_of("finetune@2019-d12-pretrained") == Limits(cpus=8, memory="16Gi", gpus=1)
    assert found.limits_of("finetune@2019-full-pretrained") == Limits(cpus=8, memory="24Gi", gpus=1)
    assert found.limits_of("finetune@2019-full-pretrained").memory_bytes == 24 << 30


def test_mounts_are_seen_from_the_file(named: Path) -> None:
    named.write_text("mounts: [archive]")
    (named.parent / "archive").mkdir()
    assert deployment().mounts == (named.parent / "archive",)


def test_the_images_that_infra_names_are_those_of_this_version() -> None:
    version = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
    texts = [path.read_text() for path in (CHECKOUT / "infra").rglob("*.yaml")]
    named = [tag for text in texts for tag in re.findall(r"stcln-(?:step|service)(?::|, newTag: )([\d.]+)", text)]
    assert len(named) >= 6 and set(named) == {version}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "there is no such file; correct the environment variable STCLN_DEPLOYMENT"),
        ("runner: pigeon", "field runner: .*'pigeon'.*infra/deployment.yaml is an example"),
        ("runner: container", "runner container needs an image"),
        ("limits: {pretrain: {memory: 16GB}}", "field limits.pretrain.memory: .*'16GB'"),
        ("environment: [TOKEN=secret]", "field environment"),
        ("limits: {pretrian: {gpus: 1}}", "field limits: .*no stage is called 'pretrian': there are fetch, "),
        ("limits: {pretrain: {gpus: -1}}", "field limits.pretrain.gpus: .*-1"),
        ("mounts: [nowhere]", "field mounts: .*nowhere is not there"),
        ("runner: kubernetes\nimage: a", "runner kubernetes needs the section cluster"),
        (f"{PODS}, claim: Claims, path: /srv}}", "field cluster.claim: .*'Claims'"),
        (
            f"{PODS}, claim: c, path: /srv}}\nenvironment: [TOKEN]",
            "variables come from a Secret: name it in",
        ),
        (f"{PODS}, claim: c, path: /srv}}\nnetwork: host", "NetworkPolicies: leave network out"),
        (
            f"{PODS}, claim: c, path: /srv}}\nlimits: {{pretrain: {{nodes: 2}}}}",
            "on one node: `nodes` needs runner kubeflow",
        ),
        (f"{PODS}}}", "results shared needs cluster.claim and cluster.path"),
        (f"{PODS}}}\nresults: remote\nmounts: [/tmp]", "results remote gives pods no claim, which"),
        ("limits: {pretrain: {disk: 9Gi}}", "`disk` is of pods whose results are remote: leave it out"),
        ("image: a\nimage: b", "'image' stands twice"),
    ],
)
def test_a_faulty_file_is_told_in_a_sentence(named: Path, text: str | None, said: str) -> None:
    if text is not None:
        named.write_text(text)
    with pytest.raises(BadInput, match=said):
        deployment()
