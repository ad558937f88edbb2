"""What is due on a day, on the edges; what a run of a season makes and leaves."""

import json
from datetime import UTC, date, datetime

import dagster as dg
import pytest
from toy_workspace import Toy

from orchestration import study as runs
from orchestration.definitions import build_defs
from orchestration.seasons.due import running, waits
from stcln.new import studies
from stcln.study import load_study

pytestmark = [pytest.mark.orchestration, pytest.mark.long]
FLANDERS = load_study(studies()["flanders"])  # day 0 is 1 September; lengths june (until 06-30) and d30
LATE = date(2019, 6, 28)


@pytest.mark.parametrize(
    ("length", "today", "last_image", "why"),
    [
        ("june", date(2019, 6, 30), LATE, "its last day, 2019-06-30, has not passed"),
        ("june", date(2019, 7, 1), LATE, ""),
        ("june", date(2019, 7, 1), date(2019, 6, 21), ""),
        ("june", date(2019, 7, 1), date(2019, 6, 20), "the images of season 2019 end on 2019-06-20"),
        ("june", date(2019, 7, 1), None, "season 2019 has not been prepared"),
        ("d30", date(2019, 8, 31), LATE, "season 2019 is under way until 2019-09-02"),
        ("d30", date(2019, 9, 1), LATE, "season 2019 is under way"),
        ("d30", date(2019, 9, 2), LATE, ""),
        ("june", date(2019, 9, 2), None, ""),  # over: there will be no more
        ("june", date(2018, 9, 1), None, "has not passed"),
    ],
)
def test_a_length_is_due_after_its_day_when_its_images_have_come_or_the_season_is_over(
    length: str, today: date, last_image: date | None, why: str
) -> None:
    found = waits(FLANDERS, "2019", length, today, last_image)
    assert why in found and bool(why) == bool(found)


def test_a_season_is_fetched_until_two_weeks_after_its_end_so_that_whole_lengths_become_due() -> None:
    assert running(FLANDERS, date(2018, 8, 31)) == ["2018"]
    assert running(FLANDERS, date(2018, 9, 10)) == ["2018", "2019"]
    assert running(FLANDERS, date(2019, 9, 15)) == ["2019"]
    assert running(FLANDERS, date(2019, 9, 16)) == []


def test_the_schedule_asks_for_the_running_season_and_not_for_a_past_one(
    toy: Toy, instance: dg.DagsterInstance
) -> None:
    schedule = build_defs(toy.root, toy.resources).resolve_schedule_def("running_season")
    asked = []
    for day in (datetime(2019, 6, 3, tzinfo=UTC), datetime(2024, 6, 3, tzinfo=UTC)):
        with dg.build_schedule_context(instance=instance, scheduled_execution_time=day) as context:
            asked.append(schedule(context))
    (request,), skipped = asked
    assert (request.partition_key, request.run_key) == ("2019", "2019-2019-06-03")
    assert request.run_config["ops"]["run_season"]["config"]["fetch_again"]
    assert isinstance(skipped, dg.SkipReason)


def on(toy: Toy, instance: dg.DagsterInstance, today: date) -> list[str]:
    """Materialise season 2019 as its job does on a day, fetching again; the lines said."""
    said: list[str] = []
    plan = toy.plan
    for steps, again in ((runs.season_steps(plan, "2019"), True), (runs.cell_steps(plan, "2019"), False)):
        runs.materialise(plan, steps, instance, toy.resources, said.append, again, today)
    return said


def test_cells_fill_up_as_their_days_pass_and_what_has_not_changed_is_not_computed_again(
    toy: Toy, instance: dg.DagsterInstance
) -> None:
    toy.edit("length: [full]", "length: [june, full]")
    toy.edit("  full: {dates: 16}", "  full: {dates: 16}\n  june: {until: 06-05}")  # the toy's last image is of 1 June
    said = on(toy, instance, date(2019, 6, 5))
    assert [line for line in said if "finetuned_scratch" in line] == [
        "[1/9] finetuned_scratch [june|2019] is not due: its last day, 2019-06-05, has not passed",
        "[2/9] finetuned_scratch [full|2019] is not due: season 2019 is under way until 2020-01-02",
    ]
    assert "[9/9] cross_year_report is not due: no cell has been scored" in said
    assert not [line for line in toy.ran() if line.startswith(("finetune", "evaluate", "report"))]
    on(toy, instance, date(2019, 6, 6))
    assert [line for line in toy.ran() if line != "fetch"] == [
        "finetune 2019 june scratch", "finetune 2019 june pretrained", "evaluate 2019 june scratch",
        "evaluate 2019 june pretrained", "report",
    ]  # fmt: skip
    on(toy, instance, date(2019, 6, 13))
    assert toy.ran() == ["fetch"]
    on(toy, instance, date(2020, 1, 2))
    assert {line.split()[2] for line in toy.ran() if line.startswith(("finetune", "evaluate"))} == {"full"}


def test_the_season_job_makes_one_seasons_cells_its_drift_and_the_report(
    toy: Toy, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions("season", ["2018", "2019"])
    job = build_defs(toy.root, toy.resources).resolve_job_def("season")
    assert job.execute_in_process(instance=instance, partition_key="2019").success
    ran = toy.ran()
    assert {"evaluate 2019 full scratch", "prepare 2018", "drift 2019", "report"} <= set(ran)
    assert not [line for line in ran if line.startswith(("finetune 2018", "evaluate 2018", "drift 2018"))]
    assert job.execute_in_process(instance=instance, partition_key="2019").success
    assert toy.ran() == []


def test_a_job_knows_a_season_that_was_registered_after_it_was_loaded(toy: Toy, instance: dg.DagsterInstance) -> None:
    job = build_defs(toy.root, toy.resources).resolve_job_def("season")
    toy.edit("season: [2018, 2019]", "season: [2018, 2019, 2020]")
    (toy.root / "template/2020.zarr").symlink_to("2019.zarr")
    instance.add_dynamic_partitions("season", ["2020"])
    assert job.execute_in_process(instance=instance, partition_key="2020").success
    assert "finetune 2020 full scratch" in toy.ran()


def test_another_pre_training_is_advised_and_not_begun(toy: Toy, instance: dg.DagsterInstance) -> None:
    on(toy, instance, date(2024, 1, 1))
    toy.ran()
    (toy.root / "template/decision.txt").write_text("pre-train again")
    (toy.root / "reports/drift/2019/drift.json").unlink()
    toy.edit("drift: {error: 1.5", "drift: {error: 1.4")
    said = on(toy, instance, date(2024, 1, 1))
    assert toy.ran() == ["fetch", "drift 2019"]
    assert "    check like_those_trained_on: WARN, pre-train again: a toy." in said


def test_advice_that_fails_stands_in_no_ones_way(toy: Toy, instance: dg.DagsterInstance) -> None:
    path = toy.root / "toy.py"
    path.write_text(
        path.read_text().replace('elif ask.verb == "drift":\n', 'elif ask.verb == "drift":\n    raise SystemExit(1)\n')
    )
    said = on(toy, instance, date(2024, 1, 1))
    assert any(line.startswith("    no advice: ") for line in said)
    assert "evaluate 2019 full pretrained" in toy.ran()


def test_a_corrected_season_makes_its_own_cells_stale_and_no_other_models(
    done: tuple[Toy, dg.DagsterInstance],
) -> None:
    toy, instance = done
    stages, ledger = [step.stage for step in toy.plan.steps()], toy.resources["ledger"]
    assert all(ledger.versions(stages).values())
    path = toy.root / "template/2019.zarr/validation.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images": 7}))
    for step in toy.plan.steps():
        if step.stage == "fetch" or step.stage.startswith("prepare@"):
            runs.materialise(toy.plan, [step], instance, toy.resources, print, step.stage == "fetch")
    standing = {stage for stage, version in ledger.versions(stages).items() if version}
    assert {"prepare@2018", "scratch@2018-full-scratch"} <= standing
    assert not standing & {"scratch@2019-full-scratch", "pretrain", "evaluate-scratch@2019-full-scratch"}
