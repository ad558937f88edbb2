"""The checks that gate: what blocks, what warns."""

import json

import dagster as dg
import pytest
from toy_workspace import VALIDATION, Toy

from assets.season_checks import season_checks
from orchestration.study import Refused

pytestmark = pytest.mark.orchestration
Done = tuple[Toy, dg.DagsterInstance]


def test_all_checks_pass_on_a_sound_study(done: Done) -> None:
    toy, instance = done
    result = toy.one(instance, "season_store", "2018")
    found = {check.check_name: check.passed for check in result.get_asset_check_evaluations()}
    warning = ("bands_look_right", "values_in_range", "test_apart_from_training", "no_tile_twice")
    assert found == dict.fromkeys(("store_is_valid", "no_test_pixel_in_training", *warning), True)


ODD = {
    "bands_look_right": {"marks": {"bands": ["leaves are no darker in B04"], "values": []}},
    "values_in_range": {"marks": {"bands": [], "values": ["B01 is 0 everywhere"]}},
    "test_apart_from_training": {"distance": {"train": {"adjacent": 1, "metres": 0.0, "tiles": ["1", "0"]}}},
    "no_tile_twice": {"duplicates": {"same_ground": [["0", "2"]], "same_images": []}},
}


@pytest.mark.parametrize("name", ODD)
def test_a_season_that_looks_odd_is_made_and_says_why(toy: Toy, instance: dg.DagsterInstance, name: str) -> None:
    for path in (toy.root / "template").glob("*/validation.json"):
        path.write_text(json.dumps(VALIDATION | ODD[name]))
    toy.one(instance, "raw_archive")
    result = toy.one(instance, "season_store", "2018")
    odd = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert result.success
    assert [(check.check_name, check.severity) for check in odd] == [(name, dg.AssetCheckSeverity.WARN)]
    assert odd[0].description


def test_more_tiles_absent_than_the_study_allows_block(toy: Toy, instance: dg.DagsterInstance) -> None:
    toy.edit("dataset:\n", "dataset:\n  max_absent: 0.2\n")
    for path in (toy.root / "template").glob("*/validation.json"):
        path.write_text(json.dumps(VALIDATION | {"listed_ids": 4, "absent_ids": 1}))
    toy.one(instance, "raw_archive")
    result = toy.one(instance, "season_store", "2018")
    assert [check.check_name for check in result.get_asset_check_evaluations() if not check.passed] == [
        "store_is_valid"
    ]
    assert not result.success


def test_an_event_holds_the_season_s_validation_without_its_lists_by_tile(
    toy: Toy, instance: dg.DagsterInstance
) -> None:
    findings = {"dates unsorted, sorted": {"tiles": 2, "events": 2, "by_tile": {"0": 1, "2": 1}}}
    for path in (toy.root / "template").glob("*/validation.json"):
        path.write_text(json.dumps(VALIDATION | {"findings": findings}))
    toy.one(instance, "raw_archive")
    (made,) = toy.one(instance, "season_store", "2018").asset_materializations_for_node("season_store")
    shown = made.metadata["validation"].value
    assert isinstance(shown, dict) and shown["findings"] == {"dates unsorted, sorted": {"tiles": 2, "events": 2}}


def test_every_check_of_a_season_says_what_it_holds(toy: Toy) -> None:
    for check in season_checks(toy.plan):
        assert all(spec.description and len(spec.description) > 60 for spec in check.check_specs)


def test_a_test_pixel_in_training_blocks_the_study(toy: Toy, instance: dg.DagsterInstance) -> None:
    toy.edit("test: {take: [eval]}", "test: {take: [train_fold0]}")
    with pytest.raises(Refused, match="no_test_pixel_in_training"):
        toy.dagster(instance)
    assert not (toy.root / "models").exists()
    with pytest.raises(Refused):  # that it stands now does not let it pass
        toy.dagster(instance)


def test_a_loss_that_is_not_finite_blocks_and_names_the_check(toy: Toy, instance: dg.DagsterInstance) -> None:
    path = toy.root / "toy.py"
    path.write_text(path.read_text().replace('"loss": toy / n', "\"loss\": float('nan')"))
    with pytest.raises(Refused, match="losses_are_finite"):
        toy.dagster(instance)
    assert [line for line in toy.ran() if line.startswith("finetune")] == []


@pytest.mark.parametrize(
    ("arm", "labels", "severity"),
    [("scratch", "1.0", "WARN"), ("pretrained", "0.05", "WARN"), ("pretrained", "1.0", "ERROR")],
)
def test_no_better_than_majority_blocks_only_an_arm_that_may_be_served(
    done: Done, arm: str, labels: str, severity: str
) -> None:
    toy, instance = done
    toy.edit(f"{arm}: {{labels: 0.05}}", f"{arm}: {{labels: {labels}, learning_rate: 0.3}}")
    toy.one(instance, f"finetuned_{arm}", "full|2018")
    result = toy.one(instance, f"evaluation_{arm}", "full|2018")
    (found,) = result.get_asset_check_evaluations()
    assert not found.passed
    assert found.severity.value == severity
    assert result.success == (severity == "WARN")
