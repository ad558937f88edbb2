"""The HTML page: one file, nothing loaded from elsewhere."""

from collections.abc import Iterable
from html import escape

from stcln.report import ablation_page, cost, evidence, figures, html, words
from stcln.report.collect import METRICS, Results
from stcln.report.differences import FALLS, GAINS, Difference, differences, drops, heads, numbers
from stcln.report.finding import headline
from stcln.report.seasons import seasons_section
from stcln.report.style import CSS
from stcln.report.tables import Row, parity, table

TITLES = {"oa": "OA", "miou": "mIoU", "mf1": "macro-F1", "kappa": "κ"}
PARTS = (
    ("scores", "Scores"), ("differences", "Differences"), ("ablation", ablation_page.TITLE), ("cost", "Cost"),
    ("classes", "Classes"), ("maps", "Maps"), ("learning", "Learning"), ("pretraining", "Mask and reconstruction"),
    ("seasons", "Seasons"), ("method", "Method"), ("reading", "How to read it"), ("limits", "Limits"),
    ("lineage", "Lineage"),
)  # fmt: skip


def page(results: Results) -> str:
    """The whole page as text."""
    title, name = escape(results.study.title or results.study.name), escape(results.study.name)
    finding, detail = headline(results)
    banner = "".join(
        f'<p class="warning">{head} <span>{escape(said)}</span></p>\n' for head, said in words.warnings(results)
    )
    parts = (
        _scores, _differences, ablation_page.section, cost.section, evidence.classes, evidence.maps, evidence.learning,
        evidence.pretraining, seasons_section, _method, _words, _lineage,
    )  # fmt: skip
    sections = "".join(part(results) for part in parts)
    shown = [(anchor, part) for anchor, part in PARTS if f'<section id="{anchor}"' in sections]
    links = "".join(f'<a href="#{anchor}">{part}</a>' for anchor, part in shown)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{CSS}</style></head><body><main>\n'
        f"{banner}<p class=kicker>Crop mapping from satellite image time series with few labels · study "
        f"<code>{name}</code></p>\n<h1>{title}</h1>\n<p class=finding>{escape(finding)}</p>\n"
        f"{html.paragraph(detail, 'detail')}<nav>{links}</nav>\n"
        f"{sections}</main></body></html>\n"
    )


def _scores(results: Results) -> str:
    rows, last = [], ("", "")
    for row in table(results):
        if (row.season, row.tested) != last:
            last = (row.season, row.tested)
            other = "" if row.season == row.tested else f" ({results.relation(*last)})"
            rows.append(html.group(f"trained on {row.season} → tested on {row.tested}{other}", 9))
        rows.append(_score_row(row))
    head = ["arm", "length", *TITLES.values(), "majority\nOA", "trained\nclasses", "seeds"]
    drawn = figures.svg(figures.score_against_length(results))
    caption = "Mean over seeds, bars one standard deviation, faint dots single seeds. Lengths by their number of dates."
    return html.section(
        "scores", "Scores by arm, length and season pair", html.table(head, rows, texts=2),
        html.paragraph(f"Bold: highest mean mIoU among the arms. {words.COLUMNS}", "note"),
        html.figure(drawn, caption), _published(results),
    )  # fmt: skip


def _score_row(row: Row) -> str:
    anchor = f"{row.season}-{row.length}-{row.arm}"
    cells = [html.cell(row.arm, "t"), html.cell(row.length, "t")]
    for metric in METRICS:
        score, main = row.scores[metric], metric == "miou"
        cells.append(html.cell(score.text(), "best" * (row.best and main), anchor, score.mean if main else None))
    cells += [html.cell(text) for text in (f"{row.majority:.3f}", f"{row.trained:.0%}", str(row.scores["miou"].n))]
    return f"<tr>{''.join(cells)}</tr>"


def _published(results: Results) -> str:
    """The scores as the paper's code computes them, a column an arm."""
    arms = results.study.cells.arm
    rows = [
        f"<tr>{html.cell(f'{season} → {tested}', 't')}{html.cell(length, 't')}"
        f"{''.join(html.cell(found.get(arm, '–')) for arm in arms)}</tr>"
        for season, tested, length, found in parity(results)
    ]
    head = ["trained → tested", "length", *(f"{arm}\nOA · mIoU · macro-F1" for arm in arms)]
    note = html.paragraph(words.PUBLISHED, "note")
    return f"<h3>By the published rule</h3>{note}{html.table(head, rows, texts=2)}"


def _differences(results: Results) -> str:
    gains, falls = differences(results), drops(results)
    parts = [html.paragraph("No pretrained arm has a scratch arm with as many labels: nothing can be paired.")]
    if gains:
        title = "<h3>Pretrained minus scratch, equal labels, in points; above 0, pre-training is better</h3>"
        named = ((d, (d.arm, d.against, d.length, f"{d.season} → {d.tested}")) for d in gains)
        parts = [title, _difference_table(GAINS, named)]
    if falls:
        title = f"<h3>What training on {results.another} loses: own minus other, in points</h3>"
        parts += [title, _difference_table(FALLS, ((d, (d.arm, d.length, d.tested, d.season)) for d in falls))]
    parts.append(html.paragraph(words.INTERVALS + " Bold: the interval leaves out 0.", "note"))
    return html.section("differences", "Paired differences", *parts)


def _difference_table(columns: tuple[str, ...], found: Iterable[tuple[Difference, tuple[str, ...]]]) -> str:
    rows = []
    for difference, named in found:
        cells = [html.cell(text, "t") for text in named]
        cells += [html.cell(text, "best" * settled) for text, settled in numbers(difference)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return html.table(heads(columns), rows, texts=len(columns))


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
