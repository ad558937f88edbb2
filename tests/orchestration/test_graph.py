"""The DVC graph equals the asset graph: nodes, edges, partitions."""

import subprocess
import sys
from datetime import datetime
from pathlib import Path

import dagster as dg
import pytest
import toy_workspace
from dagster._core.definitions.partitions.context import partition_loading_context
from dvc.repo import Repo
from dvc.stage import PipelineStage

from assets import Plan
from orchestration.definitions import build_defs
from orchestration.study import register_seasons
from stcln.new import make
from stcln.workspace import Workspace

pytestmark = pytest.mark.orchestration
CHECKOUT = Path(__file__).parents[2]
Edges = set[tuple[str, str]]
DECISIONS = {dg.AssetKey("champion"), dg.AssetKey("champion_rollback")}  # which no run could repeat


def dvc_graph(root: Path) -> tuple[set[str], Edges]:
    with Repo(str(root)) as repo:
        graph = repo.index.graph
        stages = {stage.name for stage in graph.nodes if isinstance(stage, PipelineStage)}  # not champion.dvc
        return stages, {(a.name, b.name) for a, b in graph.edges}


def asset_graph(root: Path, instance: dg.DagsterInstance) -> tuple[set[str], Edges]:
    plan = Plan(Workspace(root))
    register_seasons(plan, instance)
    graph = build_defs(root).resolve_asset_graph()
    stages = {(step.asset, step.partition): step.stage for step in plan.steps()}
    nodes, edges = set(), set()
    with partition_loading_context(datetime(2026, 1, 1), instance):
        for key in graph.get_all_asset_keys() - DECISIONS:
            partitions = graph.get(key).partitions_def
            for partition in partitions.get_partition_keys() if partitions else [None]:
                nodes.add(stages[key, partition])
                parents = graph.get_parents_partitions(key, partition).parent_partitions
                edges |= {(stages[key, partition], stages[p.asset_key, p.partition_key]) for p in parents}
    return nodes, edges


def test_the_assets_of_this_repository_are_the_stages_of_its_dvc_yaml(instance: dg.DagsterInstance) -> None:
    assert asset_graph(CHECKOUT, instance) == dvc_graph(CHECKOUT)


@pytest.mark.parametrize("study", ["flanders", "ablation"])
def test_the_assets_of_a_made_workspace_are_the_stages_of_its_dvc_yaml(
    instance: dg.DagsterInstance, tmp_path: Path, study: str
) -> None:
    root = tmp_path / "workspace"
    make(root, study, None)
    if not (root / ".dvc").exists():  # `dvc` is not on the path of every test run
        subprocess.run([sys.executable, "-m", "dvc", "init", "-q"], cwd=root, check=True)
    assert asset_graph(root, instance) == dvc_graph(root)


def test_scratch_arms_do_not_wait_for_the_encoder(instance: dg.DagsterInstance) -> None:
    _, edges = asset_graph(CHECKOUT, instance)
    assert not {a for a, b in edges if b == "pretrain" and a.startswith("scratch@")}
    assert {a for a, b in edges if b == "pretrain" and a.startswith("finetune@")}


def test_every_asset_says_what_it_is_whose_it_is_and_of_which_code() -> None:
    graph = build_defs(CHECKOUT).resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description and node.owners and node.kinds, key
        assert bool(node.code_version) == (key not in DECISIONS), key
        assert node.group_name in {"data", "models", "scores", "results", "served"}


def test_steps_come_in_dvcs_order_so_that_both_write_the_same_lock(tmp_path: Path) -> None:
    toy_workspace.make(tmp_path / "toy", params=toy_workspace.grid(2, 2, 4))
    toy = toy_workspace.Toy(tmp_path / "toy")
    with Repo(str(toy.root)) as repo:
        assert [step.stage for step in toy.plan.steps()] == [stage.name for stage in repo.index.stages]
