"""The page's section on the seasons: what was read and left out, what looks odd, what grows there and when."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from stcln.report import figures, html, season_figures
from stcln.report.collect import Results

MASKLESS = ("mtlcc", "mtlcc-geotiff", "pastis")  # layouts without a cloud mask
COUNTS = ("tiles", "listed_ids", "absent_ids", "rejected_tiles", "images")
MOST = 20  # ids or tiles named in a list
SOUND = (
    "Nothing: bands, values and greenness over the year are those of crops, no tile is there twice, and no test tile "
    "touches a training tile."
)
APART = (
    "Metres between the nearest two tiles: from the labelled ground of a test tile to that of a tile of the other "
    "role, and to all of a tile that pre-trains."
)
RANGES = "Range: of valid pixels. Leaves: pixels with an NDVI above 0.6, on each tile's greenest date."

Found = Mapping[str, Any]
"""A season's validation.json."""


def seasons_section(results: Results) -> str:
    """Every season's validation report: tables, and small plots of dates, classes and greenness."""
    parts = [_counts(results)]
    if (layout := results.study.dataset.layout) in MASKLESS:
        parts.append(html.paragraph(f"–: the {layout} layout carries no cloud mask; clouds stay in.", "note"))
    found, left_out = odd(results), _said(results, _left_out)
    parts += ["<h3>What looks odd</h3>", html.listing(found) if found else html.paragraph(SOUND)]
    if left_out:
        parts += ["<h3>Left out and repaired</h3>", html.listing(left_out)]
    parts += ["<h3>Days with an image, by month</h3>", _dates(results), *_radar(results)]
    parts += ["<h3>Pixels by class and split</h3>", _classes(results)]
    if any(season.ndvi for season in results.seasons.values()):
        seen = "pixels, clouds included" if results.study.dataset.layout in MASKLESS else "clear pixels"
        note = f"Median NDVI of a class's {seen}, by month of the season's own year."
        parts += ["<h3>Greenness by class</h3>", html.figure(figures.svg(figures.ndvi_curves(results)), note)]
    parts += ["<h3>Reflectance by band, x 10,000</h3>", _values(results), *_distances(results)]
    return html.section("seasons", "Seasons", *parts)


def odd(results: Results) -> list[str]:
    """What looks odd in the seasons, a sentence each."""
    return _said(results, _oddities)


def _oddities(found: Found) -> Iterator[str]:
    """What looks odd in one season."""
    if not found["ndvi"]:
        yield "no NDVI, for want of B04 and B08 or of a clear date in its year: its greenness cannot be judged"
    yield from (*found["marks"]["bands"], *found["marks"]["values"])
    for what, groups in found["duplicates"].items():
        yield from (f"tiles {', '.join(ids)} have the {what.replace('_', ' ')}" for ids in islice(groups, MOST))
    if (near := found["distance"].get("train")) and near["adjacent"]:
        yield (
            f"of the test tiles {near['adjacent']} touch a training tile, as {' and '.join(near['tiles'])} do: "
            "one field can lie in both"
        )


def _said(results: Results, sentences: Callable[[Found], Iterator[str]]) -> list[str]:
    """Sentences on all seasons, each with the season's name."""
    return [
        f"{name}: {said.rstrip('.')}."
        for name, season in results.seasons.items()
        for said in sentences(season.validation)
    ]


def _left_out(found: Found) -> Iterator[str]:
    if trial := found["trial"]:
        asked = ", ".join(f"{name} {value}" for name, value in sorted(trial.items()))
        yield f"a trial on {found['tiles']} tiles ({asked}), not the whole archive"
    yield from (f"{why}: {_some(ids)}" for why, ids in (found["absent"] | found["unlisted"]).items() if ids)
    yield from (f"tile {tile} rejected: {why}" for tile, why in islice(found["rejected"].items(), MOST))
    for what, repair in found["findings"].items():
        yield f"{what}: {repair['events']:,} in {repair['tiles']:,} tiles. {repair.get('rule', '')}".rstrip()


def _some(ids: Sequence[str]) -> str:
    return ", ".join(map(str, ids[:MOST])) + (f" and {len(ids) - MOST} more" if len(ids) > MOST else "")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> str:
    """A table of plain cells, the first `texts` of a row words."""
    lines = ["".join(html.cell(text, "t" * (at < texts)) for at, text in enumerate(row)) for row in rows]
    return html.table(head, [f"<tr>{line}</tr>" for line in lines], texts)


def _counts(results: Results) -> str:
    rows = []
    for name, season in results.seasons.items():
        masked = "–" if results.study.dataset.layout in MASKLESS else f"{season.validation['invalid_share']:.1%}"
        rows.append([name, *(f"{season.validation[field]:,}" for field in COUNTS), masked])
    return _table(
        ["season", "tiles", "listed ids", "absent ids", "rejected", "images", "masked\n(cloud, nodata)"], rows
    )


def _dates(results: Results) -> str:
    masked = results.study.dataset.layout not in MASKLESS
    note = f"Days on which any tile has an image{'; dots: share of their pixels that is masked' * masked}."
    return html.figure(figures.svg(season_figures.dates(results, masked)), note, 100 + 400 * len(results.seasons))


def _radar(results: Results) -> list[str]:
    rows = [
        [name, orbit, f"{found['images']:,}", f"{sum(found['dates_per_month'].values()):,}", *_of_orbit(found)]
        for name, season in results.seasons.items()
        for orbit, found in season.validation["radar"].items()
    ]
    head = ["season", "radar", "images", "days", "missing", "range, dB"]
    return [_table(head, rows, texts=2)] if rows else []


def _of_orbit(found: Found) -> tuple[str, str]:
    spans = found["decibel_x100_range"].items()
    ranges = ", ".join(f"{band} {low / 100:.1f} to {high / 100:.1f}" for band, (low, high) in spans)
    return f"{found['missing_share']:.1%}", ranges


def _classes(results: Results) -> str:
    columns: list[tuple[str, Mapping[str, Any]]] = [
        (f"{split}\n{name}", counts)
        for name, season in results.seasons.items()
        for split, counts in season_figures.used(results, season).items()
    ]
    names = dict.fromkeys((*results.classes, *(label for _, counts in columns for label in counts)))
    rows = [
        [label, *(f"{counts.get(label, 0):,}" for _, counts in columns)]
        for label in names
        if any(counts.get(label) for _, counts in columns)
    ]
    drawn = figures.svg(season_figures.classes(results))
    return html.figure(drawn, "Shares of the scored classes' pixels.", 860) + _table(
        ["class", *(head for head, _ in columns)], rows
    )


def _values(results: Results) -> str:
    seasons = results.seasons
    rows = [
        [band, *(text for season in seasons.values() for text in _value(season.validation, band))]
        for band in results.bands
    ]
    head = [text for name in seasons for text in (f"{name}\nrange", f"{name}\nmean of leaves")]
    return html.paragraph(RANGES, "note") + _table(["band", *head], rows)


def _value(found: Found, band: str) -> tuple[str, str]:
    span, leaves = found["reflectance_range"].get(band), found["leaves"]["reflectance"].get(band)
    return (f"{span[0]:,} to {span[1]:,}" if span else "–"), (f"{leaves:,.0f}" if leaves else "–")


def _distances(results: Results) -> list[str]:
    rows = [
        [name, role, f"{near['metres']:,.0f}", ", ".join(near["tiles"]), f"{near['adjacent']:,}"]
        for name, season in results.seasons.items()
        for role, near in season.validation["distance"].items()
    ]
    if not rows:
        return []
    head = ["season", "from test to", "metres", "between tiles", "test tiles\nthat touch one"]
    return [
        "<h3>How far test ground lies from the rest</h3>",
        html.paragraph(APART, "note"),
        _table(head, rows, texts=2),
    ]
