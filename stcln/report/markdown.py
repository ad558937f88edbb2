"""The report as Markdown and as JSON: the same numbers and sentences as the page, for a pull request or a program."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from stcln.report import words
from stcln.report.collect import METRICS, Results
from stcln.report.tables import Difference, Spread, differences, drops, headline, table


def markdown(results: Results) -> str:
    """Headline, Table 1, differences, selection, method and limits as Markdown."""
    finding, detail = headline(results)
    warning = [f"> **{words.simulated(results)}**"] if results.study.simulated else []
    blocks = [
        f"# {results.study.title or results.study.name}", *warning, f"**{finding}**", detail, "## Scores",
        _grid(["trained", "tested", "length", "arm", "OA", "mIoU", "macro-F1", "κ", "majority OA", "seeds"],
              ([r.season, r.tested, r.length, r.arm, *(r.scores[m].text() for m in METRICS), f"{r.majority:.3f}",
                str(r.scores["miou"].n)] for r in table(results))),
        "![mIoU by season length](figure3.png)",
        "## Pretrained minus scratch, equal labels, in points", _differences(differences(results)),
        "## Own season minus other season, same test pixels, in points", _differences(drops(results)),
        "## Model selection", _bullets(words.selection(results)), "## Method", _bullets(
            f"{s['means']}: {s['value']}{'' if s['ours'] else ' (as published)'}" for s in words.method(results)),
        "## How to read it", _bullets(words.reading(results)), "## Limits", _bullets(words.limits(results)),
    ]  # fmt: skip
    return "\n\n".join(blocks) + "\n"


def summary(results: Results) -> dict[str, Any]:
    """Everything in the report as JSON values; what is not defined is null."""
    finding, detail = headline(results)
    tests = [
        {"season": t.season, "length": t.length, "arm": t.arm, "tested": t.tested, "seeds": list(t.seeds),
         "majority_oa": t.majority, "values": {m: t.values[m].tolist() for m in METRICS},
         "f1": {name: Spread.of(f1).json() for name, f1 in t.f1.items()}, "confusion": np.asarray(t.confusion).tolist()}
        for t in results.tests
    ]  # fmt: skip
    return {
        "study": results.study.name, "title": results.study.title, "simulated": results.study.simulated,
        "finding": finding, "detail": detail,
        "table": [{**asdict(r), "scores": {m: s.json() for m, s in r.scores.items()}} for r in table(results)],
        "pretrained_minus_scratch": [_json(d) for d in differences(results)],
        "own_minus_other_season": [_json(d) for d in drops(results)],
        "tests": tests, "selection": words.selection(results), "method": words.method(results),
        "limits": words.limits(results), "lineage": {cell.key: dict(cell.digests) for cell in results.cells},
    }  # fmt: skip


def _json(found: Difference) -> dict[str, Any]:
    return {**asdict(found), "miou": found.miou.json(), "oa": found.oa.json()}


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _differences(found: Sequence[Difference]) -> str:
    if not found:
        return "Nothing to compare."
    return _grid(
        ["arm", "against", "length", "trained", "tested", "mIoU", "OA", "seeds"],
        ([d.arm, d.against, d.length, d.season, d.tested, d.miou.text(100, 1, sign=True), d.oa.text(100, 1, sign=True),
          str(d.miou.n)] for d in found),
    )  # fmt: skip


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
