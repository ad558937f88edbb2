"""The page's section on the data: what was read, what was rejected, what grows there and when it is green."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from stcln.report import figures, html
from stcln.report.collect import Results

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MASKLESS = ("mtlcc", "mtlcc-geotiff", "pastis")  # layouts without a cloud mask
MOST = 20  # ids or tiles named in a list


def data_section(results: Results) -> str:
    """Counts, dates, classes and NDVI curves of every season."""
    head = ["season", "tiles", "rejected", "absent ids", "images", "masked (cloud, nodata)"]
    parts = [html.table(head, _counts(results)), *_rejected(results)]
    if (layout := results.study.dataset.layout) in MASKLESS:
        parts.insert(1, html.paragraph(f"–: the {layout} layout carries no cloud mask; clouds stay in.", "note"))
    parts += ["<h3>Days with an image, by month</h3>", html.table(["season", *MONTHS], _months(results))]
    parts += ["<h3>Pixels by class and split</h3>", _classes(results)]
    if any(season.ndvi for season in results.seasons.values()):
        seen = "pixels, clouds included" if results.study.dataset.layout in MASKLESS else "clear pixels"
        note = f"Median NDVI of a class's {seen}, by month of the season's own year."
        parts += ["<h3>Greenness by class</h3>", html.figure(figures.svg(figures.ndvi_curves(results)), note)]
    return html.section("data", "Data", *parts)


def _counts(results: Results) -> list[str]:
    rows = []
    for name, season in results.seasons.items():
        found = season.validation
        counts = [f"{found[field]:,}" for field in ("tiles", "rejected_tiles", "absent_ids", "images")]
        masked = "–" if results.study.dataset.layout in MASKLESS else f"{found['cloud_share']:.1%}"
        cells = "".join(html.cell(text) for text in (*counts, masked))
        rows.append(f"<tr>{html.cell(name, 't')}{cells}</tr>")
    return rows


def _rejected(results: Results) -> list[str]:
    said = []
    for name, season in results.seasons.items():
        found = season.validation
        said += [f"{name}: {why}: {_some(ids)}." for why, ids in found["absent"].items() if ids]
        said += [f"{name}: tile {tile} rejected: {why}" for tile, why in islice(found["rejected"].items(), MOST)]
        said += [f"{name}: {what}: {f['events']:,} in {f['tiles']:,} tiles." for what, f in found["findings"].items()]
    return [html.listing(said)] if said else []


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(str, ids[:MOST])) + (f" and {len(ids) - MOST} more" if len(ids) > MOST else "")


def _months(results: Results) -> list[str]:
    rows = []
    for name, season in results.seasons.items():
        counts = _by_month(season.validation["dates_per_month"])
        rows.append(f"<tr>{html.cell(name, 't')}{''.join(html.cell(str(n) if n else '') for n in counts)}</tr>")
    return rows


def _by_month(months: Mapping[str, int]) -> list[int]:
    return [sum(n for month, n in months.items() if int(month[-2:]) == at) for at in range(1, 13)]


def _classes(results: Results) -> str:
    roles = results.study.splits
    used = {split for role in (roles.pretrain, roles.train, roles.validation, roles.test) for split in role.take}
    columns: list[tuple[str, Mapping[str, Any]]] = [
        (f"{split}\n{name}", counts)
        for name, season in results.seasons.items()
        for split, counts in season.validation["pixels_per_class"].items()
        if split in used
    ]
    names = dict.fromkeys((*results.classes, *(label for _, counts in columns for label in counts)))
    rows = [
        f"<tr>{html.cell(label, 't')}{''.join(html.cell(f'{counts.get(label, 0):,}') for _, counts in columns)}</tr>"
        for label in names
        if any(counts.get(label) for _, counts in columns)
    ]
    return html.table(["class", *(head for head, _ in columns)], rows)
