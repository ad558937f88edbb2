"""The page's sections behind the scores: classes, maps, learning curves, the mask and its reconstruction."""

from html import escape

from stcln import palette
from stcln.report import figures, html, words
from stcln.report import maps as images
from stcln.report.collect import Results
from stcln.spread import Spread

MATRICES = 8  # confusion matrices on the page


def classes(results: Results) -> str:
    """F1 by class and confusion matrices, at the longest length."""
    length = results.longest
    tests = [test for test in results.tests if test.length == length]
    names = [n for k, n in enumerate(results.classes) if k not in results.ignore and any(n in t.f1 for t in tests)]
    colours = palette.of_classes(len(results.classes), results.ignore)
    rows = []
    for name in names:
        spreads = [Spread.of(test.f1[name]) if name in test.f1 else None for test in tests]
        colour = colours[results.classes.index(name)]
        cells = [html.cell(s.text(1, 2), bar=s.mean) if s and s.n else html.cell("–") for s in spreads]
        rows.append(f'<tr><td class=t><i style="color:{colour}">■</i> {escape(name)}</td>{"".join(cells)}</tr>')
    head = ["class", *(f"{test.arm}\n{test.season} → {test.tested}" for test in tests)]
    matrices = "".join(f"<figure>{figures.svg(figures.confusion(t, results))}</figure>" for t in tests[:MATRICES])
    more = f" The first {MATRICES} of {len(tests)}; report.json has all." if len(tests) > MATRICES else ""
    reading = (
        "Percent of a true class's pixels (row) that were given each class (column), over all seeds; shares below 5 "
        f"are not written.{more}"
    )
    return html.section(
        "classes", f"Classes, at length “{length}”",
        html.paragraph("F1 by class, mean ± standard deviation over seeds.", "note"), html.table(head, rows),
        "<h3>Confusion</h3>", html.paragraph(reading, "note"), f'<div class="matrices">{matrices}</div>',
    )  # fmt: skip


def maps(results: Results) -> str:
    """Maps beside truth."""
    strips = images.maps(results)
    if not strips:
        return html.section("maps", "Maps beside truth", html.paragraph("No cell kept a map."))
    note = "Test tiles, first seed, longest length. Confidence: black 0, white 100 percent. North is up."
    seen = frozenset[int]().union(*(strip.classes for strip in strips))
    shown = "".join(_strip(strip, results) for strip in strips)
    return html.section("maps", "Maps beside truth", html.paragraph(note, "note"), _legend(results, seen), shown)


def _legend(results: Results, shown: frozenset[int]) -> str:
    colours = palette.of_classes(len(results.classes), results.ignore)
    items = [(colours[k], results.classes[k]) for k in sorted(shown)] + [(images.UNSEEN, "no label")]
    listed = "".join(f'<li><i style="background:{colour}"></i>{escape(name)}</li>' for colour, name in items)
    return f'<ul class="legend">{listed}</ul>'


def _strip(strip: images.Strip, results: Results, dated: bool = False) -> str:
    shown = "".join(
        f"<figure>{html.image(png, f'{strip.title}: {caption}')}<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, png in strip.images
    )
    kind = f'"strip dates" style="--n:{len(strip.images)}"' if dated else '"strip"'
    return f"<h3>{escape(figures.marked(strip.title, results))}</h3><div class={kind}>{shown}</div>"


def learning(results: Results) -> str:
    """Learning curves, and how the models were selected."""
    drawn = figures.svg(figures.learning_curves(results))
    note = "A line a seed. The model kept is that of the best validation score; early stopping ends some lines early."
    chosen = html.listing(words.selection(results))
    return html.section("learning", "Learning curves and model selection", html.figure(drawn, note), chosen)


def pretraining(results: Results) -> str:
    """What pre-training hid and rebuilt."""
    if results.pretraining is None:
        none = html.paragraph("This study has no pre-trained encoder.")
        return html.section("pretraining", "Mask and reconstruction", none)
    mask = results.study.pretrain.mask
    gate = f"dates with more than {mask.vegetation:.0%} green pixels" if mask.vegetation else "any date"
    rule = f"{mask.kind} draw, ratio {mask.ratio:g}, {gate}"
    curve = figures.svg(figures.pretraining_curve(results.pretraining, results))
    return html.section(
        "pretraining", "Mask and reconstruction",
        html.paragraph(f"Pre-training hides whole pixels of a date ({rule}) and learns to rebuild every band."),
        html.figure(curve, "Loss by epoch, normalised reflectance.", 460), _reconstruction(results),
    )  # fmt: skip


def _reconstruction(results: Results) -> str:
    found = images.reconstruction(results.root.pretrained / "sample.npz", results.bands)
    if found is None:
        return html.paragraph("Pre-training kept no sample.")
    colours = "Near infrared, red, green as red, green, blue; grey: hidden. One stretch for all rows."
    better = "better" if found.error < found.baseline else "no better"
    measure = (
        f"{found.hidden:.0%} of this sample's pixels were hidden. Root mean squared error there: {found.error:.4f} in "
        f"reflectance, {better} than the pixel's own mean over its shown dates ({found.baseline:.4f})."
    )
    series = html.figure(found.series, measure, 860) if found.series else html.paragraph(measure)
    return (
        "".join(_strip(strip, results, dated=True) for strip in found.strips) + html.paragraph(colours, "note") + series
    )
