"""dvc.yaml says what the steps do: rendered from one table, complete, and checked before a step runs."""

import ast
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from stcln import stages
from stcln.errors import BadInput
from stcln.new import make, refresh, studies
from stcln.stages import dvc_yaml, of
from stcln.study import load_study
from stcln.workspace import BASE, CODE, PACKAGE, Workspace, code_digest

CHECKOUT = PACKAGE.parent
# They shape no output, or only through params.
LIGHT = {"errors", "events", "interrupt", "parameters", "study", "workspace", "stages", "palette"}


def test_dvc_yaml_of_the_checkout_is_the_rendered_one() -> None:
    study = load_study(CHECKOUT / "params.yaml")
    assert (CHECKOUT / "dvc.yaml").read_text() == dvc_yaml(study, checkout=True), "run `python -m stcln new . --update`"


@pytest.mark.parametrize("name", sorted(studies()))
def test_every_field_a_stage_depends_on_stands_in_every_ready_study(name: str) -> None:
    """DVC refuses a parameter that params.yaml leaves to its default."""
    values = yaml.safe_load(studies()[name].read_text())
    study = load_study(studies()[name])
    keys = {"length": study.cells.length[0], "arm": study.cells.arm[0], "pretrain": study.pretrain}
    variants = study.ablation.variants if study.ablation else {}
    for stage, variant in product(of(study).values(), variants or [""]):
        for field in stage.params:
            part: Any = values
            for key in field.format(**keys, variant=variant).split("."):
                assert key in part, f"{name}: {field}"
                part = part[key]


def imports(file: Path) -> set[str]:
    """Modules of stcln that a file imports, as relative paths without suffix."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "stcln":
            base = "/".join((node.module or "").split(".")[1:])
            found |= {f"{base}/{name.name}".strip("/") for name in node.names} | {base}
    return {
        name for name in found if (PACKAGE / f"{name}.py").is_file() or (PACKAGE / name / "__init__.py").is_file()
    } - {""}


@pytest.mark.parametrize("verb", sorted(CODE))
def test_the_code_a_stage_depends_on_is_all_that_its_step_imports(verb: str) -> None:
    listed = [PACKAGE / part for part in (*BASE, *CODE[verb])]
    assert all(path.exists() for path in listed), [str(path) for path in listed if not path.exists()]
    files = [f for path in listed for f in (path.rglob("*.py") if path.is_dir() else [path])]
    covered = {f.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__") for f in files}
    needed = {name for file in files for name in imports(file)} - LIGHT - {"data"}
    assert needed <= covered, f"{verb} also runs {sorted(needed - covered)}"


def test_a_step_refuses_a_workspace_made_with_another_version(tmp_path: Path) -> None:
    make(tmp_path / "w", "demo", None)
    workspace = Workspace(tmp_path / "w")
    stages.check(workspace, "fetch")
    pinned = workspace.root / "code.yaml"
    pinned.write_text(pinned.read_text().replace(code_digest("fetch"), "0" * 32))
    with pytest.raises(BadInput, match=r"code.yaml, field fetch: .*not the one .*--update"):
        stages.check(workspace, "fetch")
    refresh(workspace.root)
    stages.check(workspace, "fetch")


def test_a_step_refuses_a_pipeline_that_misses_an_input(tmp_path: Path) -> None:
    make(tmp_path / "w", "demo", None)
    params = tmp_path / "w/params.yaml"
    params.write_text(params.read_text().replace("  seasons: [2018, 2019]", "  seasons: [2018]"))
    refresh(tmp_path / "w")
    stages.check(Workspace(tmp_path / "w"), "pretrain")
    params.write_text(params.read_text().replace("  seasons: [2018]", "  seasons: [2018, 2019]"))
    with pytest.raises(BadInput, match=r"dvc.yaml, stage pretrain: does not name .*seasons\[1\]"):
        stages.check(Workspace(tmp_path / "w"), "pretrain")


def test_a_key_outside_the_study_is_named(tmp_path: Path) -> None:
    make(tmp_path / "w", "demo", None)
    with pytest.raises(BadInput, match=r"cells.season: no season '1999' among \['2018', '2019'\]"):
        stages.check(Workspace(tmp_path / "w"), "prepare", season="1999")


@pytest.mark.parametrize(
    ("study", "source", "by_season"),
    [("pastis", None, False), ("pastis", "https://x.org/a.zip", False), ("flanders", "s3://bucket/cubes", True)],
)
def test_a_further_season_does_not_fetch_a_source_again_that_never_grows(
    tmp_path: Path, study: str, source: str | None, by_season: bool
) -> None:
    make(tmp_path / "w", study, source)
    place = Workspace(tmp_path / "w")

    def tracked() -> bool:
        stages.check(Workspace(place.root), "fetch")
        return "cells.season" in yaml.safe_load((place.root / "dvc.yaml").read_text())["stages"]["fetch"]["params"]

    assert tracked() is by_season
    if by_season:
        return
    params = place.root / "params.yaml"
    params.write_text(params.read_text().replace("  only: {}", "  only: {limit: 1}"))
    with pytest.raises(BadInput, match=r"stage fetch: does not name seed; .*--update"):
        tracked()
    stages.render(Workspace(place.root))
    assert tracked(), "a trial takes tiles of every season"
