"""The report as Markdown and as JSON: the same numbers and sentences as the page, for a pull request or a program."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from stcln.report import ablation, ablation_page, cost, words
from stcln.report.collect import METRICS, Results
from stcln.report.differences import FALLS, GAINS, Difference, differences, drops, heads, numbers
from stcln.report.finding import headline
from stcln.report.seasons import COUNTS, SOUND, odd
from stcln.report.tables import parity, table
from stcln.spread import FEW, Spread


def markdown(results: Results) -> str:
    """Headline, Table 1, differences, selection, method and limits as Markdown."""
    finding, detail = headline(results)
    gains, falls = differences(results), drops(results)
    warnings = [f"> **{head} {said}**" for head, said in words.warnings(results)]
    blocks = [
        f"# {results.study.title or results.study.name}", *warnings, f"**{finding}**", detail, "## Scores",
        _grid(["trained", "tested", "length", "arm", "OA", "mIoU", "macro-F1", "κ", "majority OA",
               "trained classes", "seeds"],
              ([r.season, r.tested, r.length, r.arm, *(r.scores[m].text() for m in METRICS), f"{r.majority:.3f}",
                f"{r.trained:.0%}", str(r.scores["miou"].n)] for r in table(results))),
        words.COLUMNS, "![mIoU by season length](figure3.png)",
        "### By the published rule", words.PUBLISHED, _published(results),
        "## Pretrained minus scratch, equal labels, in points; above 0, pre-training is better",
        _differences(GAINS, ((d, (d.arm, d.against, d.length, f"{d.season} → {d.tested}")) for d in gains)),
        f"## What training on {results.another} loses: own minus other, in points",
        _differences(FALLS, ((d, (d.arm, d.length, d.tested, d.season)) for d in falls)), words.INTERVALS,
        *ablation_page.markdown(results, _grid), "## Cost beside quality", _cost(results),
        "## Seasons", _seasons(results), "What looks odd:", _bullets(odd(results) or [SOUND]),
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
         "majority_oa": t.majority, "trained_share": t.trained,
         "values": {m: t.values[m].tolist() for m in METRICS}, "parity": {m: v.tolist() for m, v in t.parity.items()},
         "f1": {name: Spread.of(f1).json() for name, f1 in t.f1.items()}, "confusion": np.asarray(t.confusion).tolist()}
        for t in results.tests
    ]  # fmt: skip
    return {
        "study": results.study.name, "title": results.study.title, "simulated": results.simulated,
        "finding": finding, "detail": detail,
        "table": [{**asdict(r), "scores": {m: s.json() for m, s in r.scores.items()}} for r in table(results)],
        "pretrained_minus_scratch": [_json(d) for d in differences(results)],
        "own_minus_other_season": [_json(d) for d in drops(results)],
        "ablation": ablation.summary(results.root),
        "tests": tests, "selection": words.selection(results), "method": words.method(results),
        "limits": words.limits(results),
        "seasons": {
            name: {key: season.validation[key] for key in (*COUNTS, "trial")}
            for name, season in results.seasons.items()
        },
        "cost": cost.summary(results), "odd": odd(results),
        "lineage": {cell.key: dict(cell.digests) for cell in results.cells},
    }  # fmt: skip


def _json(found: Difference) -> dict[str, Any]:
    return {**asdict(found), "miou": _spread(found.miou), "oa": _spread(found.oa)}


def _spread(found: Spread) -> dict[str, Any]:
    return {**found.json(), "interval95": found.interval() if found.n >= FEW else None}


def _published(results: Results) -> str:
    arms = results.study.cells.arm
    head = ["trained", "tested", "length", *(f"{arm}: OA · mIoU · macro-F1" for arm in arms)]
    return _grid(head, ([*key, *(found.get(arm, "–") for arm in arms)] for *key, found in parity(results)))


def _cost(results: Results) -> str:
    head, rows, said = cost.markdown(results)
    return "\n\n".join([_grid(head, rows), *said])


def _seasons(results: Results) -> str:
    """Counts of every season."""
    rows = [[name, *(f"{season.validation[key]:,}" for key in COUNTS)] for name, season in results.seasons.items()]
    return _grid(["season", *(key.replace("_", " ") for key in COUNTS)], rows)


def _grid(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _differences(columns: tuple[str, ...], found: Iterable[tuple[Difference, tuple[str, ...]]]) -> str:
    rows = [[*named, *(text for text, _ in numbers(difference))] for difference, named in found]
    return _grid([head.replace("\n", " ") for head in heads(columns)], rows) if rows else "Nothing to compare."


def _bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
