"""A variant is an asset's partition, a stage of dvc.yaml, and what the report reads."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
import toy_workspace
from toy_workspace import Toy

pytestmark = pytest.mark.orchestration
ABLATION = """
ablation:
  season: [2018]
  length: full
  seeds: 1
  variants: {base: {}, index: {method: {positions: index}}}
  questions: {switches: [base, index]}
"""


def test_a_variant_materialises_with_dvcs_version_and_stands_until_its_own_fields_change(
    instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    toy_workspace.make(tmp_path / "toy", ABLATION)
    toy = Toy(tmp_path / "toy")
    shutil.copytree(toy.root / "template", toy.root / "data/seasons", ignore=shutil.ignore_patterns("*.npz"))
    for variant in ("base", "index"):
        result = toy.one(instance, "ablation", variant)
        assert result.success
    (made,) = result.asset_materializations_for_node("ablation")
    version = toy.resources["ledger"].version("ablate@index")
    assert made.tags and made.tags["dagster/data_version"] == version and version
    assert made.metadata["scores"].value.records[0].data["miou"] == 0.4
    assert toy.ran() == ["ablate base", "ablate index"]
    toy.edit("{positions: index}}}", "{positions: index, clouds: seen}}}")
    assert toy.resources["ledger"].versions(["ablate@base", "ablate@index"])["ablate@index"] is None
    for variant in ("base", "index"):
        assert toy.one(instance, "ablation", variant).success
    assert toy.ran() == ["ablate index"], "the other one stands"
