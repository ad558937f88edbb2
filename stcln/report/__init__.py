"""The cross-year report of a study: one HTML page, and the same as Markdown, JSON and a figure."""

from stcln import stages, storage
from stcln.events import Reporter, Value
from stcln.report import cost, figures
from stcln.report.collect import Results, collect
from stcln.report.finding import headline
from stcln.report.markdown import markdown, summary
from stcln.report.measured import measured
from stcln.report.page import page
from stcln.workspace import Workspace

__all__ = ["report"]


def report(workspace: Workspace, reporter: Reporter) -> dict[str, Value]:
    """Write reports/study: index.html, report.md, report.json, figure3.png. Equal scores give equal bytes.

    Beside it, and not DVC's, stand reports/index.html and cost.json: what the steps took on this machine.

    Returns:
        The finding in a sentence, the number of cells reported and of cells not yet scored.

    Raises:
        BadInput: No cell has been scored, or a file that a scored cell needs is missing or broken.
    """
    reporter.progress("report", 0, 3)
    results = collect(workspace)
    reporter.progress("report", 1, 3)
    with storage.whole_directory(workspace.report) as directory:
        (directory / "index.html").write_text(text := page(results), encoding="utf-8")
        reporter.progress("report", 2, 3)
        (directory / "report.md").write_text(markdown(results), encoding="utf-8")
        storage.write_json(directory / "report.json", summary(results))
        (directory / "figure3.png").write_bytes(figures.png(figures.score_against_length(results)))
        stages.write_lineage(directory, workspace, "report", stages.inputs(workspace, "report"))
    _beside(workspace, results, text)
    if results.absent:
        reporter.note(f"{len(results.absent)} cells have no scores yet", {"absent": ", ".join(results.absent)})
    reporter.progress("report", 3, 3)
    return {"finding": headline(results)[0], "cells": len(results.cells), "absent": len(results.absent)}


def _beside(workspace: Workspace, results: Results, text: str) -> None:
    """Write the page once more, with what differs between equal runs in the section of the cost."""
    home, took = workspace.report.parent, measured(workspace)
    storage.write_text(home / "index.html", text.replace(cost.section(results), cost.section(results, took)))
    storage.write_json(home / "cost.json", took.json())
