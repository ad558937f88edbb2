"""The UI as a person uses it, in a real browser, on a real study. The pictures in the docs come from here.

`STCLN_PICTURES=docs/images python -m pytest tests/orchestration/test_browser.py` takes them anew.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import real_study
import yaml
from own_ui import Ui

from assets import Plan
from stcln.workspace import Workspace

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

pytestmark = [pytest.mark.orchestration, pytest.mark.long]

QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
FITS = 18  # letters of a name in the graph
PATIENCE = 120_000.0  # milliseconds, on a busy machine


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two seasons that has not run; trained so briefly that its gate must hold its models back."""
    root = tmp_path_factory.mktemp("browser") / "workspace"
    real_study.make(root)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["cells"] |= {"season": [2018, 2019], "length": ["d3"]}
    params["lengths"] = {"d3": {"dates": 3}}
    params["pretrain"] |= {"seasons": [2018, 2019], "length": "d3"}
    params["arms"]["pretrained"] = {"labels": 1.0}
    params["finetune"]["learning_rate"] = 1e-9
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    real_study.call(root, "-m", "stcln", "new", ".", "--update")
    return root


@pytest.fixture(scope="module")
def page(study: Path, tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Page]":
    """A tab of the browser, on the study's UI."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install 'stcln[services]'")
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("no chromium here: tests/install gets it")
    ui = Ui(study, tmp_path_factory.mktemp("ui") / "log")
    try:
        ui.asked("{assetNodes{id}}")
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=chromium, args=[*QUIET])
            page = browser.new_page(viewport={"width": 1600, "height": 1000}, base_url=f"http://127.0.0.1:{ui.port}")
            page.set_default_timeout(PATIENCE)
            yield page
            browser.close()
    finally:
        ui.interrupt()


def shot(page: "Page", name: str, part: "Locator | None" = None) -> None:
    """Take a picture for the docs, where they are wanted."""
    if directory := os.environ.get("STCLN_PICTURES"):
        page.wait_for_timeout(2000)  # what moves has come to rest
        (part or page).screenshot(path=Path(directory) / f"{name}.png")


def reload_until(page: "Page", address: str, text: str) -> None:
    """Open a page, again and again, until it shows a text: not all of it follows what happens."""
    for _ in range(40):
        page.goto(address)
        page.wait_for_timeout(3000)
        if page.get_by_text(text, exact=True).first.is_visible():
            return
    raise AssertionError(f"{address} does not show {text!r}")


def lineage(page: "Page") -> None:
    """Open the graph, its groups unfolded."""
    page.goto("/asset-groups")
    page.get_by_text("served").first.wait_for()
    inside = page.get_by_text("cross_year_report", exact=True).first
    for _ in range(20):  # a key that comes too early is lost
        page.keyboard.press("Alt+e")
        page.wait_for_timeout(3000)
        if inside.is_visible():
            return
    raise AssertionError("the groups do not unfold")


def test_the_lineage_shows_every_asset(page: "Page", study: Path) -> None:
    lineage(page)
    names = {step.asset.to_user_string() for step in Plan(Workspace(study)).steps()}
    for name in names:
        shown = name if len(name) <= FITS else f"{name[:6]}…"  # the graph cuts a long one in the middle
        page.get_by_text(shown).first.wait_for()


def test_a_click_materialises_an_asset_and_its_run_shows_progress(page: "Page") -> None:
    page.goto("/assets/raw_archive")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_text("Launched run").wait_for()
    page.goto("/runs")
    page.locator("a[href^='/runs/']").first.click()
    page.get_by_text("Success", exact=True).first.wait_for()
    page.get_by_placeholder("Filter").fill("16/16")
    page.get_by_text(re.compile("16/16")).first.wait_for()


def test_a_backfill_materialises_every_season(page: "Page", study: Path) -> None:
    page.goto("/assets/season_store")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Missing", exact=True).click()
    page.get_by_text("2 partitions").first.wait_for()
    shot(page, "backfill")
    page.get_by_role("button", name="Launch backfill").click()
    page.get_by_text("Created backfill").wait_for()
    for season in ("2018", "2019"):
        reload_until(page, f"/assets/season_store?view=partitions&partition={season}", "rejected_tiles")
    assert all((study / f"data/seasons/{season}.zarr").exists() for season in (2018, 2019))


def test_one_partition_is_asked_for_on_its_own_page_and_is_not_computed_again(page: "Page") -> None:
    place = "/assets/season_store?view=partitions&partition=2018"
    reload_until(page, place, "rejected_tiles")
    assert not page.get_by_text("false", exact=True).count()
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="Launch 1 run").click()
    page.get_by_text("Launched run").wait_for()
    reload_until(page, place, "false")  # what says whether it was computed


def test_a_blocked_check_says_what_it_holds_and_what_it_found(page: "Page", study: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.study"], cwd=study, env=real_study.workspace(study), text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "better_than_majority" in done.stdout + done.stderr
    page.goto("/assets/evaluation_pretrained?view=checks")
    page.get_by_text("blocking", exact=True).wait_for()
    page.get_by_text("no better than the best constant answer on 2018, 2019").wait_for()
    shot(page, "check")


def test_losses_plot_over_materialisations(page: "Page") -> None:
    page.goto("/assets/pretrained_encoder")
    page.get_by_text("Plots", exact=True).click()
    page.get_by_text("final_loss").first.wait_for()
    shot(page, "plots")


def test_the_report_is_read_from_its_assets_page_also_after_dvc_repro(page: "Page", study: Path) -> None:
    real_study.call(study, "-m", "dvc", "repro", "-q")
    reload_until(page, "/assets/cross_year_report", "finding")
    page.get_by_text("[Show Markdown]").first.click()
    page.get_by_text("How to read it").wait_for()
    lineage(page)
    shot(page, "asset-graph")
