"""The graph of dvc.yaml as a Kubeflow pipeline: compiled by kfp, and run by kfp's own runner."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import elsewhere
import pytest
import yaml
from dvc.repo import Repo
from seaweed import Seaweed
from toy_workspace import Toy

from stcln.stages import code_yaml

pytestmark = [pytest.mark.orchestration, pytest.mark.long]
CHECKOUT = Path(__file__).parents[2]
HOME = CHECKOUT / "infra/kubeflow"
DEPLOYMENT = """
runner: container
results: remote
image: registry.example/stcln-remote:1
limits: {"*": {memory: 2Gi}, "scratch@*": {cpus: 3, gpus: 1}}
"""
TOY_VERBS = f"""
import sys
if "orchestration.step" in sys.orig_argv:
    import subprocess, os
    from pathlib import Path
    import stcln.cli
    def run_verb(words, reporter):
        for name in ("template", "runs.log"):
            Path(name).symlink_to(Path(os.environ["TOY"], name))
        subprocess.run([sys.executable, {str(elsewhere.HERE / "toy.py")!r}, *words], check=True)
        return {{}}
    stcln.cli.run_verb = run_verb
"""


@pytest.fixture(scope="module")
def kfp() -> str:
    """Python where kfp is, which cannot be where Dagster is; made once."""
    made = subprocess.run(["make", "-s", ".venv-kfp/ready"], cwd=CHECKOUT, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no kfp here: {made.stderr[-200:]}")
    return str(CHECKOUT / ".venv-kfp/bin/python")


@pytest.fixture
def toy(tmp_path: Path, s3: Seaweed) -> Toy:
    """A toy of one season and one arm whose results travel by a bucket."""
    toy = elsewhere.make(tmp_path / "workspace", elsewhere.ONE.replace("pretrained: [pretrained]", "pretrained: []"))
    (toy.root / "code.yaml").write_text(code_yaml())
    elsewhere.send_away(toy, s3.bucket("kubeflow") + "/study")
    return toy


def call(*words: str | Path, **more: str) -> str:
    """A script with this checkout's packages; gives what it printed."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(CHECKOUT), **more}
    done = subprocess.run([*map(str, words)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def edges(root: Path) -> Mapping[str, set[str]]:
    """DVC's own, by stage."""
    with Repo(str(root)) as repo:
        graph = repo.index.graph
        return {stage.name: {need.name for need in graph.successors(stage)} for stage in graph.nodes}


def test_a_compiled_pipeline_has_dvcs_edges_and_run_by_kfp_its_results_are_taken_over_without_a_run(
    toy: Toy, kfp: str, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    (tmp_path / "deployment.yaml").write_text(DEPLOYMENT)
    graph, compiled = tmp_path / "graph.json", tmp_path / "pipeline.yaml"
    graph.write_text(
        call(sys.executable, HOME / "graph.py", toy.root, STCLN_DEPLOYMENT=str(tmp_path / "deployment.yaml"))
    )
    call(kfp, HOME / "pipeline.py", graph, compiled)
    spec = yaml.safe_load(compiled.read_text())
    tasks = {task["taskInfo"]["name"]: task for task in spec["root"]["dag"]["tasks"].values()}
    named = {key: task["taskInfo"]["name"] for key, task in spec["root"]["dag"]["tasks"].items()}
    expected = edges(toy.root)
    assert {name: {named[need] for need in task.get("dependentTasks", [])} for name, task in tasks.items()} == expected
    containers = {name: run["container"] for name, run in spec["deploymentSpec"]["executors"].items()}
    scratch = containers["exec-scratch-2018-full-scratch"]
    assert {run["image"] for run in containers.values()} == {"registry.example/stcln-remote:1"}
    assert scratch["resources"]["accelerator"]["resourceCount"] == "1"
    assert " ".join(scratch["command"] + scratch["args"][:3]) == "python -m orchestration.step finetune --season 2018"

    several = DEPLOYMENT.replace("runner: container", "runner: kubeflow\ncluster: {namespace: n}")
    (tmp_path / "deployment.yaml").write_text(several.replace("cpus: 3", "nodes: 2"))
    with pytest.raises(AssertionError, match=r"limits.scratch@\*.nodes: a task of a pipeline runs on one node"):
        call(sys.executable, HOME / "graph.py", toy.root, STCLN_DEPLOYMENT=str(tmp_path / "deployment.yaml"))
    (tmp_path / "verbs").mkdir()
    (tmp_path / "verbs/sitecustomize.py").write_text(TOY_VERBS)
    more = {"TOY": str(toy.root), "PYTHONPATH": os.pathsep.join([str(tmp_path / "verbs"), str(CHECKOUT)])}
    call(kfp, HOME / "pipeline.py", graph, "--local", **more)
    assert len(toy.ran()) == len(expected) == len(json.loads(graph.read_text())["tasks"])
    assert toy.dagster(instance) == len(expected)
    assert toy.ran() == []
