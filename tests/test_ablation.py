"""Variants of a study: each changes only what it says, equal steps are made once, and what cannot act is told."""

import json
import shutil
import threading
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from made_study import make
from tiny_study import restudy

from stcln import ablation, lineage, report, runs, stages
from stcln.ablation import ablate, bench
from stcln.ablation.idle import why_idle
from stcln.errors import BadInput
from stcln.evaluate import evaluate
from stcln.events import JsonLines, Silent
from stcln.report.ablation import read, summary
from stcln.report.ablation_page import section
from stcln.report.collect import collect
from stcln.report.page import page
from stcln.storage import read_json, write_json
from stcln.study import load_study
from stcln.training.finetune import finetune
from stcln.training.pretrain import pretrain
from stcln.workspace import Workspace

VARIANTS: dict[str, Any] = {
    "base": {},
    "labels-30": {"arms": {"scratch": {"labels": 0.3}, "pretrained": {"labels": 0.3}}},
    "mask-20": {"pretrain": {"mask": {"ratio": 0.2}}},
    "excluded": {"method": {"excluded": "truth-and-predicted"}},
    "window-tile": {"method": {"test_window": "tile"}},
}
ABLATION = {
    "season": ["2016"], "length": "d6", "seeds": 2, "variants": VARIANTS,
    "questions": {"switches": ["base", "excluded", "window-tile"], "mask": ["base", "mask-20"],
                  "labels": ["base", "labels-30"]},
}  # fmt: skip
CELL = {"season": "2016", "length": "d6"}


def tried(place: Workspace, **changes: Any) -> Workspace:
    cells = {"length": ["d6"], "scratch": ["scratch"], "pretrained": ["pretrained"]}
    gate = {"epochs": 1, "mask": {"vegetation": 0.2}}
    small = restudy(place, cells=cells, pretrain=gate, finetune={"epochs": 2}, arms={})
    return restudy(small, ablation={**ABLATION, **changes})


def scores(place: Workspace, variant: str) -> Any:
    return read_json(place.ablation(variant) / "scores.json")


def made(place: Workspace) -> Counter[str]:
    """How often each stage was computed."""
    records = (place.root / ".stcln/ablation/made").glob("*/lineage.json")
    return Counter(read_json(record)["stage"] for record in records)


def test_equal_steps_are_made_once_and_the_base_scores_as_the_plain_study(tiny_workspace: Workspace) -> None:
    place = tried(tiny_workspace)
    for variant in VARIANTS:
        ablate(place, variant, Silent())
    assert made(place) == {
        "pretrain": 2 * 2,  # two seeds of base and of mask-20, and no more
        "scratch@2016-d6-scratch": 2 * 2,  # of base and of labels-30
        "finetune@2016-d6-pretrained": 2 * 3,  # of mask-20 too
        "evaluate-scratch@2016-d6-scratch": 2 * 3,  # of base, labels-30 and excluded
        "evaluate@2016-d6-pretrained": 2 * 4,
    }
    pretrain(place, Silent())
    for arm, cell in zip(("scratch", "pretrained"), scores(place, "base")["runs"][0]["cells"], strict=True):
        finetune(place, **CELL, arm=arm, reporter=Silent())
        evaluate(place, **CELL, arm=arm, reporter=Silent())
        plain = read_json(place.cell(**CELL, arm=arm) / "scores.json")["seeds"][0]["tests"]
        assert cell["arm"] == arm
        assert cell["tests"] == {year: {name: test[name] for name in ablation.KEPT} for year, test in plain.items()}
    few, all_of_them = (scores(place, name)["runs"][0]["cells"][0]["labelled"] for name in ("labels-30", "base"))
    assert few == pytest.approx(0.3 * all_of_them, rel=0.1)
    assert lineage.trace(place.ablation("base"), place).matches
    assert read_json(place.ablation("mask-20") / "lineage.json")["params"]["ablation.variants.mask-20"] == {
        "pretrain": {"mask": {"ratio": 0.2}}
    }


def test_a_run_differs_from_the_bases_only_in_what_its_variant_names(tiny_workspace: Workspace) -> None:
    place = tried(tiny_workspace)
    base, other = (bench.Bench.of(place, name, 1, Silent()).study for name in ("base", "mask-20"))
    assert base.seed == place.study.seed + 1 and base.finetune.seeds == 1
    mask = base.pretrain.mask.model_copy(update={"ratio": 0.2})
    assert other == base.model_copy(update={"pretrain": base.pretrain.model_copy(update={"mask": mask})})


def test_a_switch_that_cannot_act_is_told_with_the_reason_and_would_have_changed_no_score(
    tiny_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tried(tiny_workspace, seeds=1)
    ablate(place, "window-tile", Silent())
    told = scores(place, "window-tile")
    assert told["runs"] == [] and "no larger than the window of 8 pixels" in told["idle"]
    monkeypatch.setattr(ablation, "why_idle", lambda *_: "")
    for variant in ("base", "window-tile"):
        ablate(place, variant, Silent())
    assert scores(place, "window-tile")["runs"] == scores(place, "base")["runs"]


@pytest.mark.parametrize(
    ("method", "lengths", "said"),
    [
        ({"padding": "attended"}, {}, "equal numbers of dates"),
        ({"padding": "attended"}, {"d6": {"dates": None, "until": "08-31"}}, ""),
        ({"clouds": "seen"}, {}, ""),
        ({"clouds": "seen", "positions": "index"}, {}, ""),
        ({"empty_mask": "step"}, {}, "byte for byte"),
        ({"vegetation": "normalised"}, {}, ""),
    ],
)
def test_what_is_idle_follows_from_the_data(
    tiny_workspace: Workspace, method: dict[str, str], lengths: dict[str, Any], said: str
) -> None:
    """The stores have clouds, and the same number of dates in every tile, but not up to a day."""
    variants = {"base": {}, "other": {"method": method}}
    questions = {"one": ["base", "other"]}
    place = restudy(tried(tiny_workspace, seeds=1, variants=variants, questions=questions), lengths=lengths)
    reason = why_idle(place, "other", Silent())
    assert said in reason and bool(reason) is bool(said)


def test_a_stopped_variant_goes_on_with_the_encoders_that_it_has(
    tiny_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, calls = tried(tiny_workspace, seeds=1), []

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(bench, "finetune", stop)
        with pytest.raises(KeyboardInterrupt):
            ablate(place, "base", Silent())
    assert not place.ablation("base").exists()
    monkeypatch.setattr(bench, "pretrain", lambda *_: calls.append("pretrain"))
    ablate(place, "base", Silent())
    assert not calls and len(scores(place, "base")["runs"]) == 1


def test_what_the_steps_of_a_run_tell_is_told_under_their_names(tiny_workspace: Workspace) -> None:
    place, cell = tried(tiny_workspace, seeds=1), "2016 d6 scratch"

    class BreaksOff(Silent):
        def progress(self, what: str, *_: object) -> None:
            if what == f"finetune {cell}: epoch":
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ablate(place, "base", BreaksOff())
    stream = StringIO()
    ablate(place, "base", JsonLines(stream))
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    names = [event["what"] for event in told if event["event"] == "progress"]
    assert f"finetune {cell}: epoch" in names and f"evaluate {cell}: tile" in names and names[-1] == "run"
    assert f"finetune {cell}: resumed" in [event["message"] for event in told if event["event"] == "note"]


def test_of_two_processes_that_want_one_step_the_second_waits(tiny_workspace: Workspace) -> None:
    order, begun = [], threading.Event()

    def first() -> None:
        with runs.alone(tiny_workspace, "step"):
            begun.set()
            threading.Event().wait(0.2)
            order.append("first")

    other = threading.Thread(target=first)
    other.start()
    begun.wait()
    with pytest.raises(BadInput, match="running already"), runs.alone(tiny_workspace, "step"):
        pass
    with runs.alone(tiny_workspace, "step", wait=True):
        order.append("second")
    other.join()
    assert order == ["first", "second"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"variants": {"a": {"method": {"positions": "weeks"}}}}, r"ablation.variants.a: method.positions: .*'days'"),
        ({"variants": {"a": {"pretrain": {"mask": {"rate": 0.2}}}}}, r"ablation.variants.a: pretrain.mask.rate: Extra"),
        ({"variants": {"a": {"dataset": {"tile": 8}}}}, r"variants.a: \['dataset'\] cannot differ between variants"),
        ({"variants": {"a": {"method": {"lists": "as-published"}}}}, "variants.a: method.lists shapes the season"),
        ({"variants": {"a": {"method": {"dates": "redrawn"}}}}, "ablation.variants.a: .*nothing is redrawn of lengths"),
        ({"questions": {"one": ["a"]}}, r"questions: \['one'\] must name two variants"),
        ({"questions": {"one": ["base", "b"]}}, r"questions: \['b'\] not among the variants"),
        ({"variants": {"a": {}, "c": {}}}, r"variants: no question names \['c'\]"),
        ({"season": ["1999"]}, r"ablation.season: \['1999'\] not among"),
        ({"length": "d99"}, r"ablation.length: \['d99'\] not among"),
    ],
)
def test_a_faulty_ablation_is_refused_by_file_field_and_remedy(
    tiny_workspace: Workspace, change: dict[str, Any], said: str
) -> None:
    questions = {"one": ["base", "a"]}
    text = yaml.safe_load((tiny_workspace.root / "params.yaml").read_text())
    parts = {"season": ["2016"], "length": "d6", "variants": {"base": {}, "a": {}}, "questions": questions, **change}
    parts["variants"] = {"base": {}, **parts["variants"]}
    path = tiny_workspace.root / "params.yaml"
    path.write_text(yaml.safe_dump({**text, "ablation": parts}))
    with pytest.raises(BadInput, match=rf"params.yaml, field .*{said}.*correct the field"):
        load_study(path)


def test_a_variant_outside_the_study_is_named(tiny_workspace: Workspace) -> None:
    with pytest.raises(BadInput, match=r"ablation.variants: no variant 'x' among \['base'"):
        stages.check(tried(tiny_workspace), "ablate", variant="x")


def test_a_variant_that_dvc_yaml_does_not_list_is_refused_with_the_remedy(tiny_workspace: Workspace) -> None:
    place = tried(tiny_workspace)
    (place.root / "dvc.yaml").write_text(stages.dvc_yaml(place.study, checkout=True))
    stages.check(place, "ablate", variant="mask-20")
    questions = {**ABLATION["questions"], "more": ["base", "new"]}
    more = restudy(place, ablation={**ABLATION, "variants": {**VARIANTS, "new": {}}, "questions": questions})
    with pytest.raises(BadInput, match=r"stage ablate: does not name variants \['base', .*'new', .*\]; run .*--update"):
        stages.check(more, "ablate", variant="mask-20")


def told(place: Workspace, effects: dict[str, float], idle: str = "") -> Workspace:
    """A made study with scores of variants: `effects` is what each adds to the base's mIoU."""
    text = (place.root / "params.yaml").read_text()
    variants = {name: {"arms": {"scratch": {"labels": 0.01}, "pretrained": {"labels": 0.01}}} for name in effects}
    section = {
        "season": ["2018"], "length": "full", "seeds": 5, "variants": {**variants, "base": {}, "idle": {}},
        "questions": {"labels": ["base", *effects, "idle"]},
    }  # fmt: skip
    (place.root / "params.yaml").write_text(text + yaml.safe_dump({"ablation": section}))
    for name, more in {"base": 0.0, **effects}.items():
        found = []
        for seed in range(5):
            cells = []
            for arm, gain in (("scratch", 0.0), ("pretrained", 0.1)):
                level = 0.4 + more + gain + 0.01 * seed + 0.001 * (seed % 2) * (name == "base")
                tests = {year: dict.fromkeys(ablation.KEPT, level) for year in ("2018", "2019")}
                cells.append({"season": "2018", "arm": arm, "labelled": 100, "tests": tests})
            found.append({"seed": seed, "encoder": None, "cells": cells})
        write_json(place.ablation(name) / "scores.json", {"variant": name, "idle": "", "runs": found})
    write_json(place.ablation("idle") / "scores.json", {"variant": "idle", "idle": idle, "runs": []})
    return Workspace(place.root)


def test_the_report_says_which_variants_differ_clearly_and_which_have_no_effect(tmp_path: Path) -> None:
    place = told(make(tmp_path, seeds=1), {"few": -0.2, "same": 0.0004}, "every pixel is valid")
    report.report(place, Silent())
    assert "reports/ablation" in read_json(place.report / "lineage.json")["inputs"]
    text, marked = (place.report / "index.html").read_text(), (place.report / "report.md").read_text()
    assert '<a href="#ablation">' in text and "mIoU by share of labels — simulated data" in text
    for said in (text, marked):
        assert "few, scratch on another season, −20.0 (−20.1 to −20.0)" in said
        assert "No effect here, so not run: idle, since every pixel is valid." in said
        assert "Pretrained minus scratch, clear in mIoU in 6 of 6 pairs: base on its own season, +10.0" in said
    assert "| its own season | few | pretrained | 0.320 ± 0.016 |" in marked
    found = json.loads((place.report / "report.json").read_text())["ablation"]["labels"]
    key = ("few", "scratch", "its own season")
    (line,) = [row for row in found["table"] if (row["variant"], row["arm"], row["place"]) == key]
    assert line["miou_difference"]["mean"] == pytest.approx(-0.2004) and line["miou_difference"]["n"] == 5
    assert found["no_effect"] == {"idle": "every pixel is valid"} and found["against"] == "base"


def test_a_difference_within_the_spread_is_not_called_clear(tmp_path: Path) -> None:
    place = told(make(tmp_path, seeds=1), {"few": 0.0004})
    assert "Not clear for any arm on any season: few." in section(collect(place))


def test_a_variant_that_has_not_run_is_missing_by_name_and_a_study_without_any_has_no_section(tmp_path: Path) -> None:
    place = told(make(tmp_path, seeds=1), {"few": -0.2})
    (place.ablation("few") / "scores.json").unlink()
    assert "Not yet run and missing here: few." in section(collect(place))
    assert set(read(place)) == {"base", "idle"}
    shutil.rmtree(place.root / "reports/ablation")
    text = page(collect(place))
    assert section(collect(place)) == "" and "#ablation" not in text
    assert summary(place) is None
