"""The manifests of infra/kubernetes, as `kubectl kustomize` puts them together: valid, at one, no more than needed."""

import re
import shutil
import subprocess
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import kmock
import kubernetes_validate
import pytest
import yaml
from kubeflow_trainer_api import models
from own_cluster import OWN, OwnCluster
from own_trainer import Nodes, OwnTrainer
from step_in_cluster import Ran
from test_trainjobs import WELL

from orchestration.deployment import Deployment, Limits
from orchestration.runners import pipes, pod_spec
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration

INFRA = Path(__file__).parents[2] / "infra"
OVERLAYS = sorted(path.name for path in (INFRA / "kubernetes/overlays").iterdir())
KUBERNETES = "1.32"
CONFINED = {
    "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
}  # fmt: skip
PLAIN = {"STCLN_WORKSPACE", "STCLN_DEPLOYMENT", "STCLN_CODE_HOST", "STCLN_CODE_PORT", "HOME", "DVC_SITE_CACHE_DIR"}
Document = dict[str, Any]


@cache
def documents(overlay: str) -> list[Document]:
    """An overlay, put together."""
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here, which puts them together")
    words = ["kubectl", "kustomize", str(INFRA / "kubernetes/overlays" / overlay)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, Document]:
    """Its documents of a kind, by name."""
    return {one["metadata"]["name"]: one for one in documents(overlay) if one["kind"] == kind}


def deployment_of(overlay: str) -> Deployment:
    """The deployment file that its code server reads."""
    (text,) = (
        one["data"]["deployment.yaml"] for name, one in of_kind(overlay, "ConfigMap").items() if "deploy" in name
    )
    return Deployment.model_validate(yaml.safe_load(text))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_document_fits_its_schema_to_the_letter(overlay: str) -> None:
    for document in documents(overlay):
        if document["kind"] == "ClusterTrainingRuntime":
            read = models.TrainerV1alpha1ClusterTrainingRuntime.from_dict(document)
            assert read and read.to_dict() == document
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


def test_a_field_that_is_misspelt_fits_no_schema() -> None:
    code = of_kind("cpu", "Deployment")["stcln-code"]
    wrong = {**code, "spec": {**code["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_deployment_file_names_what_the_overlay_brings(overlay: str) -> None:
    found = deployment_of(overlay)
    assert found.cluster
    (namespace,), (claim,) = of_kind(overlay, "Namespace"), of_kind(overlay, "PersistentVolumeClaim")
    assert (found.cluster.namespace, found.cluster.claim) == (namespace, claim)
    assert {one["metadata"]["namespace"] for one in documents(overlay) if "namespace" in one["metadata"]} == {namespace}
    code = of_kind(overlay, "Deployment")["stcln-code"]["spec"]["template"]["spec"]
    for container in (*code["initContainers"], *code["containers"]):
        (mount,) = (one for one in container["volumeMounts"] if one["name"] == "workspace")
        assert mount["mountPath"] == str(found.cluster.path)
    version = re.search(r'^version = "(.+)"', (INFRA.parent / "pyproject.toml").read_text(), re.M)
    assert version and found.image == f"stcln-step:{version[1]}"
    images = {one["image"] for one in (*code["initContainers"], *code["containers"])}
    assert images == {f"stcln-service:{version[1]}"}


def test_the_runtime_has_what_the_pods_of_the_other_steps_have(owned: Workspace) -> None:
    (runtime,) = of_kind("gpu", "ClusterTrainingRuntime").values()
    (job,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    pod, found = job["template"]["spec"]["template"]["spec"], deployment_of("gpu")
    assert found.runner == "kubeflow" and found.cluster and found.cluster.runtime == runtime["metadata"]["name"]
    place = found.cluster.model_copy(update={"path": owned.root})
    other = pod_spec.pod_spec(owned.root, found.model_copy(update={"cluster": place}), Limits())
    same = ("restartPolicy", "automountServiceAccountToken", "enableServiceLinks", "terminationGracePeriodSeconds")
    assert {name: pod[name] for name in same} == {name: other[name] for name in same}
    (ours,), (theirs,) = pod["containers"], other["containers"]
    assert ours["securityContext"] == theirs["securityContext"] and ours["envFrom"] == theirs["envFrom"]
    assert [*pod["volumes"], pod_spec.workspace_volume(found.cluster)] == other["volumes"]
    assert [*ours["volumeMounts"], *theirs["volumeMounts"][2:]] == theirs["volumeMounts"]
    assert pod["securityContext"].items() <= other["securityContext"].items()
    assert pod["terminationGracePeriodSeconds"] == pipes.GRACE


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_service_runs_as_root_writes_to_its_root_or_is_reached_from_outside(overlay: str) -> None:
    for name, one in of_kind(overlay, "Deployment").items():
        pod = one["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["seccompProfile"], name
        assert pod["automountServiceAccountToken"] is (name == "stcln-code"), name
        for container in (*pod.get("initContainers", []), *pod["containers"]):
            assert container["securityContext"] == CONFINED and container["resources"]["limits"]["memory"], name
    assert {one["spec"].get("type", "ClusterIP") for one in of_kind(overlay, "Service").values()} == {"ClusterIP"}
    assert of_kind(overlay, "Namespace")["stcln"]["metadata"]["labels"] == {
        "pod-security.kubernetes.io/enforce": "restricted"
    }
    policies = of_kind(overlay, "NetworkPolicy")
    everything = policies["nothing-else"]["spec"]
    assert everything == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    (only,) = policies["webserver-in"]["spec"]["ingress"][0]["from"]
    assert only == {"namespaceSelector": {"matchLabels": {"stcln/authenticates": "yes"}}}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_secrets_are_named_and_none_is_there(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    for name, one in of_kind(overlay, "Deployment").items():
        (container,) = one["spec"]["template"]["spec"]["containers"]
        assert container["envFrom"] == [{"secretRef": {"name": "stcln-service"}}], name
        assert {pair["name"] for pair in container["env"]} <= PLAIN, name
    (instance,) = (one["data"] for one in of_kind(overlay, "ConfigMap").values() if "dagster.yaml" in one["data"])
    storage = yaml.safe_load(instance["dagster.yaml"])["storage"]["postgres"]["postgres_db"]
    assert all(set(value) == {"env"} for value in storage.values())


def test_the_rights_are_those_that_the_runners_use_and_no_more(
    trainer: OwnTrainer, cluster: OwnCluster, crops: Deployment, owned: Workspace
) -> None:
    kubeflow = crops.model_copy(update={"runner": "kubeflow", "limits": {"*": Limits(cpus=1, nodes=2)}})
    cluster.node = Nodes(WELL, WELL)
    assert Ran(owned, crops).success and Ran(owned, kubeflow).success
    used = {
        (one.resource.group, f"{one.resource.plural}{f'/{one.subresource}' if one.subresource else ''}", _verb(one))
        for one in cluster.server
        if one.resource and one.headers["User-Agent"] != OWN
    }
    given = {
        triple
        for kind in ("Role", "ClusterRole")
        for role in of_kind("gpu", kind).values()
        for rule in role["rules"]
        for triple in product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }
    assert used - {("", "configmaps", "get")} == given  # the SDK looks for its trainer's version, and can do without


def _verb(request: Any) -> str:
    names = {kmock.action.FETCH: "get", kmock.action.LIST: "list", kmock.action.CREATE: "create"}
    return names.get(request.action, "get" if request.subresource else str(request.action.value).lower())
