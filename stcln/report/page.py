"""The HTML page: one file, nothing loaded from elsewhere."""

from collections.abc import Sequence
from html import escape

from stcln.report import evidence, figures, html, words
from stcln.report.collect import METRICS, Results
from stcln.report.data import data_section
from stcln.report.style import CSS
from stcln.report.tables import Difference, Row, differences, drops, headline, table

TITLES = {"oa": "OA", "miou": "mIoU", "mf1": "macro-F1", "kappa": "κ"}
PARTS = (
    ("scores", "Scores"), ("differences", "Differences"), ("classes", "Classes"), ("maps", "Maps"),
    ("learning", "Learning"), ("pretraining", "Mask and reconstruction"), ("data", "Data"), ("method", "Method"),
    ("reading", "How to read it"), ("limits", "Limits"), ("lineage", "Lineage"),
)  # fmt: skip


def page(results: Results) -> str:
    """The whole page as text."""
    title, name = escape(results.study.title or results.study.name), escape(results.study.name)
    finding, detail = headline(results)
    banner = (
        f'<p class="simulated">Simulated data. <span>{words.WARNING}</span></p>\n' if results.study.simulated else ""
    )
    links = "".join(f'<a href="#{anchor}">{part}</a>' for anchor, part in PARTS)
    sections = (
        _scores, _differences, evidence.classes, evidence.maps, evidence.learning, evidence.pretraining, data_section,
        _method, _words, _lineage,
    )  # fmt: skip
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{CSS}</style></head><body><main>\n'
        f"{banner}<p class=kicker>Crop mapping from satellite image time series with few labels · study "
        f"<code>{name}</code></p>\n<h1>{title}</h1>\n<p class=finding>{escape(finding)}</p>\n"
        f"{html.paragraph(detail, 'detail')}<nav>{links}</nav>\n"
        f"{''.join(part(results) for part in sections)}</main></body></html>\n"
    )


def pair_name(season: str, tested: str) -> str:
    """A season pair in words."""
    return f"{season} → {tested}, " + ("its own season" if season == tested else "another season")


def _scores(results: Results) -> str:
    rows, last = [], ("", "")
    for row in table(results):
        if (row.season, row.tested) != last:
            last = (row.season, row.tested)
            other = "" if row.season == row.tested else " (another season)"
            rows.append(html.group(f"trained on {row.season} → tested on {row.tested}{other}", 8))
        rows.append(_score_row(row))
    head = ["arm", "length", *TITLES.values(), "majority OA", "seeds"]
    bold = "Bold: highest mean mIoU among the arms. Majority: the accuracy of always saying the most frequent class."
    drawn = figures.svg(figures.score_against_length(results))
    caption = "Mean over seeds, bars one standard deviation, faint dots single seeds. Lengths by their number of dates."
    body = html.table(head, rows, texts=2) + html.paragraph(bold, "note") + html.figure(drawn, caption)
    return html.section("scores", "Scores by arm, length and season pair", body)


def _score_row(row: Row) -> str:
    anchor = f"{row.season}-{row.length}-{row.arm}"
    cells = [html.cell(row.arm, "t"), html.cell(row.length, "t")]
    for metric in METRICS:
        score, main = row.scores[metric], metric == "miou"
        cells.append(html.cell(score.text(), "best" * (row.best and main), anchor, score.mean if main else None))
    cells += [html.cell(f"{row.majority:.3f}"), html.cell(str(row.scores["miou"].n))]
    return f"<tr>{''.join(cells)}</tr>"


def _differences(results: Results) -> str:
    gains, falls = differences(results), drops(results)
    parts = [html.paragraph("No pretrained arm has a scratch arm with as many labels: nothing can be paired.")]
    if gains:
        title = "<h3>Pretrained minus scratch, equal labels, seed by seed, in points</h3>"
        parts = [title, _difference_table(gains, "minus")]
    if falls:
        parts.append(
            "<h3>What training on another season loses: own minus other season, same test pixels, in points</h3>"
        )
        parts.append(_difference_table(falls, "own season"))
    parts.append(html.paragraph("Where ± is as large as the difference, these seeds do not settle its sign.", "note"))
    return html.section("differences", "Paired differences", *parts)


def _difference_table(found: Sequence[Difference], against: str) -> str:
    rows = []
    for d in found:
        texts = (d.arm, d.against, d.length, pair_name(d.season, d.tested))
        numbers = (d.miou.text(100, 1, sign=True), d.oa.text(100, 1, sign=True), str(d.miou.n))
        cells = [*(html.cell(text, "t") for text in texts), *(html.cell(text) for text in numbers)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return html.table(["arm", against, "length", "trained → tested", "mIoU", "OA", "seeds"], rows, texts=4)


def _method(results: Results) -> str:
    switches = words.method(results)
    differ = [switch["switch"] for switch in switches if not switch["ours"]]
    said = "All switches stand at this package's defaults."
    if differ:
        said = f"Switched to the published behaviour: {', '.join(differ)}."
    rows = [
        f"<tr>{html.cell(s['means'], 't')}{html.cell(s['value'], 't' if s['ours'] else 't best')}"
        f"{html.cell('default' if s['ours'] else 'as published', 't')}</tr>"
        for s in switches
    ]
    return html.section("method", "Method", html.paragraph(said), html.table(["switch", "value", ""], rows, texts=3))


def _words(results: Results) -> str:
    reading = html.section("reading", "How to read it", html.listing(words.reading(results)))
    return reading + html.section("limits", "Limits", html.listing(words.limits(results)))


def _lineage(results: Results) -> str:
    names = ("scores", "model", "encoder", "store", "archive", "code")
    rows = []
    for c in results.cells:
        codes = [f'<code title="{c.digests[n]}">{c.digests[n][:10]}</code>' if n in c.digests else "–" for n in names]
        cells = "".join(f"<td class=t>{code}</td>" for code in codes)
        rows.append(f'<tr id="{escape(c.key)}">{html.cell(c.key, "t")}{cells}</tr>')
    note = "md5 as DVC records them (hover for all of it; report.json has them in full). Code: of the training step."
    return html.section(
        "lineage", "Lineage of every number", html.paragraph(note, "note"), html.table(["cell", *names], rows, 7)
    )
