"""What Dagster makes DVC knows, what DVC makes Dagster knows, and both make the same."""

import shutil
from pathlib import Path

import dagster as dg
import pytest
from toy_workspace import Toy

from orchestration.ledger import DvcLedger
from stcln.errors import BadInput

pytestmark = pytest.mark.orchestration


def test_dagster_and_dvc_repro_give_the_same_lock(finished: Path, reproduced: Path) -> None:
    assert Toy(reproduced).lock == Toy(finished).lock


def test_after_dagster_dvc_status_is_clean_and_repro_runs_nothing(done: tuple[Toy, dg.DagsterInstance]) -> None:
    toy, _ = done
    assert "up to date" in toy.dvc("status")
    lock = toy.lock
    toy.dvc("repro", "-q")
    assert toy.ran() == []
    assert toy.lock == lock


def test_after_dvc_repro_dagster_records_every_version_and_runs_nothing(
    by_dvc: Toy, instance: dg.DagsterInstance
) -> None:
    by_dvc.dagster(instance)
    assert by_dvc.ran() == []
    record = instance.get_latest_materialization_event(dg.AssetKey("cross_year_report"))
    assert record and record.asset_materialization
    assert record.asset_materialization.tags["dagster/data_version"] in by_dvc.lock


def test_a_second_study_launches_no_run(done: tuple[Toy, dg.DagsterInstance]) -> None:
    toy, instance = done
    assert toy.dagster(instance) == 0
    assert toy.ran() == []


def test_an_unchanged_stage_is_not_computed_again_but_reports_its_version(done: tuple[Toy, dg.DagsterInstance]) -> None:
    toy, instance = done
    result = toy.one(instance, "finetuned_scratch", "full|2018")
    assert result.success
    (made,) = result.asset_materializations_for_node("finetuned_scratch")
    assert made.metadata["computed"].value is False
    assert made.tags and made.tags["dagster/data_version"] in toy.lock
    assert toy.ran() == []


def test_a_missing_output_is_restored_from_the_cache_without_a_run(done: tuple[Toy, dg.DagsterInstance]) -> None:
    toy, instance = done
    for part in ("models", "reports"):
        shutil.rmtree(toy.root / part)
    assert toy.dagster(instance) == 0
    assert toy.ran() == []
    assert "up to date" in toy.dvc("status")


def test_a_parameter_of_one_arm_makes_only_its_cells_and_what_reads_them_stale_in_both(
    done: tuple[Toy, dg.DagsterInstance], tmp_path: Path
) -> None:
    toy, instance = done
    toy.edit("scratch: {labels: 0.05}", "scratch: {labels: 0.05, learning_rate: 0.7}")
    twin = Toy(Path(shutil.copytree(toy.root, tmp_path / "twin")))
    cells = {f"{verb} {season} full scratch" for verb in ("finetune", "evaluate") for season in ("2018", "2019")}
    toy.dagster(instance)
    twin.dvc("repro", "-q")
    assert set(toy.ran()) == cells | {"report", "export"}
    assert set(twin.ran()) == cells | {"report", "export"}
    assert toy.lock == twin.lock


def test_a_parameter_that_returns_takes_the_earlier_output_from_the_run_cache(
    done: tuple[Toy, dg.DagsterInstance],
) -> None:
    toy, instance = done
    lock = toy.lock
    toy.edit("scratch: {labels: 0.05}", "scratch: {labels: 0.06}")
    toy.one(instance, "finetuned_scratch", "full|2018")
    assert toy.ran() == ["finetune 2018 full scratch"]
    toy.edit("scratch: {labels: 0.06}", "scratch: {labels: 0.05}")
    toy.one(instance, "finetuned_scratch", "full|2018")
    assert toy.ran() == []
    assert toy.lock == lock


def test_a_changed_output_is_put_back(done: tuple[Toy, dg.DagsterInstance]) -> None:
    toy, instance = done
    page = toy.root / "reports/study/report.md"
    text = page.read_text()
    page.unlink()  # the file may be a link into the cache
    page.write_text("mine")
    toy.dagster(instance)
    assert page.read_text() == text


def test_what_was_changed_while_a_step_ran_is_not_recorded_as_used(done: tuple[Toy, dg.DagsterInstance]) -> None:
    toy, _ = done
    ledger, stage, lock = DvcLedger(toy.root), "finetune@2018-full-pretrained", toy.lock
    ledger.argv(stage)
    params = toy.root / "params.yaml"
    params.write_text(params.read_text().replace("seed: ", "seed: 1"))
    with pytest.raises(BadInput, match=f"stage {stage}: .*params.yaml was changed while it ran; materialise it again"):
        ledger.commit(stage)
    assert toy.lock == lock


def test_a_section_that_dvc_misses_in_params_is_told_before_anything_runs(toy: Toy) -> None:
    kept = [line for line in (toy.root / "params.yaml").read_text().splitlines() if not line.startswith("seed:")]
    (toy.root / "params.yaml").write_text("\n".join(kept))
    with pytest.raises(BadInput, match=r"params.yaml: DVC misses .*'seed'.*; `python -m stcln new \. --update` writes"):
        toy.resources["ledger"].versions(["fetch"])
    with pytest.raises(BadInput, match="DVC misses"):
        toy.resources["ledger"].argv("fetch")
