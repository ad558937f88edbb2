"""What looks wrong in a season's numbers: bands in another order, values on another scale, dates that are not crops'.

Each rule is one that real crops keep and that a mistake breaks. A mark is a sentence for a person to look into; nothing
is rejected by it.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

SUMMER_CROP = re.compile("maize|corn|sunflower|soy|sorghum|beet|potato|bean", re.IGNORECASE)
WINTER_CROP = re.compile("winter.*(wheat|barley|rye|triticale|spelt|rape)|^rape", re.IGNORECASE)
GRASS = re.compile("meadow|grass|pasture|prairie", re.IGNORECASE)
SANE = (-0.4, 0.99)  # median NDVI of a class in a month; snow, cloud and open water lie within
GREENEST = 0.3  # NDVI that some class must exceed in some month from April to September
LEAVES = (
    ("B04", "B03"), ("B04", "B05"), ("B05", "B07"), ("B04", "B08"), ("B12", "B11"), ("B12", "B08"), ("B10", "B04"),
)  # fmt: skip
"""Of a leaf, the first band is darker than the second: red edge, green peak, water, cirrus."""
ALIKE = ("B08", "B8A")  # near infrared, broad and narrow
APART = 1.4  # ratio that the two stay within
ENOUGH = 500  # pixels of leaves to judge by
NEAR_INFRARED = (1000, 7000)  # of leaves, reflectance x 10,000
OFFSET = 900  # no pixel of any band is darker: the offset of 1,000 of processing baseline 04.00 is still in
BACKSCATTER = ("_VV", "_VH")
DARKEST, BRIGHTEST = -2000, 32766


def of_bands(found: Mapping[str, Any], ignore: Sequence[str], south: bool) -> list[str]:
    """Signs that bands are in another order than named, or dates in another year.

    Args:
        found: Of validation.json: `ndvi`, `leaves`.
        ignore: Classes that are not judged.
        south: Whether the ground lies south of the equator: its summer is six months later.
    """
    ndvi = {
        name: {(int(month) - 1 + 6 * south) % 12 + 1: value for month, value in months.items()}
        for name, months in found["ndvi"].items()
        if name not in ignore
    }
    return [*_limits(found["ndvi"], ignore), *_seasons(ndvi), *_leaves(found["leaves"])]


def _limits(ndvi: Mapping[str, Mapping[str, float]], ignore: Sequence[str]) -> Iterable[str]:
    outside = [
        f"{name} {value:.2f} in month {month}"
        for name, months in sorted(ndvi.items()) if name not in ignore
        for month, value in sorted(months.items()) if not SANE[0] <= value <= SANE[1]
    ]  # fmt: skip
    if outside:
        yield f"median NDVI outside {SANE[0]} to {SANE[1]}: {', '.join(outside)}"


def _seasons(ndvi: Mapping[str, Mapping[int, float]]) -> Iterable[str]:
    """Rules by month of the northern year."""
    growing = {name: [v for m, v in months.items() if 4 <= m <= 9] for name, months in ndvi.items()}
    if (values := [v for known in growing.values() for v in known]) and max(values) <= GREENEST:
        yield f"no class is greener than an NDVI of {GREENEST} in any month of the growing season"
    for name, known in sorted(growing.items()):
        if GRASS.search(name) and known and min(known) < 0:
            yield f"{name} is brighter in red (B04) than in near infrared (B08) in the growing season"
    summer, winter = ([ndvi[name] for name in sorted(ndvi) if rule.search(name)] for rule in (SUMMER_CROP, WINTER_CROP))
    late, bare = _most(summer, (6, 7, 8), max), _most(summer, (1, 2, 3, 4, 5), min)
    if late is not None and bare is not None and late <= bare:
        yield f"summer crops are no greener from June to August ({late:.2f}) than from January to May ({bare:.2f})"
    late, ripe = _most(summer, (7, 8), max), _most(winter, (7, 8), min)
    if late is not None and ripe is not None and late <= ripe:
        yield f"summer crops are no greener in July and August ({late:.2f}) than winter crops, then ripe ({ripe:.2f})"


def _most(
    crops: Sequence[Mapping[int, float]], months: Sequence[int], most: Callable[[list[float]], float]
) -> float | None:
    """Mean over crops of the highest or lowest NDVI in some months; None where no crop was seen then."""
    known = [values for crop in crops if (values := [crop[m] for m in months if m in crop])]
    return fmean(most(values) for values in known) if known else None


def _leaves(leaves: Mapping[str, Any]) -> Iterable[str]:
    mean = leaves["reflectance"]
    if leaves["pixels"] < ENOUGH:
        return
    for dark, bright in LEAVES:
        if {dark, bright} <= set(mean) and mean[dark] >= mean[bright]:
            yield f"leaves are no darker in {dark} ({mean[dark]:.0f}) than in {bright} ({mean[bright]:.0f})"
    if set(ALIKE) <= set(mean):
        broad, narrow = (mean[name] for name in ALIKE)
        if not 1 / APART <= broad / max(narrow, 1) <= APART:
            yield f"leaves differ between {ALIKE[0]} ({broad:.0f}) and {ALIKE[1]} ({narrow:.0f})"


def of_values(found: Mapping[str, Any]) -> list[str]:
    """Signs that reflectance is not x 10,000 without an offset, or radar not in decibel.

    Args:
        found: Of validation.json: `reflectance_range`, `leaves`, `radar`.
    """
    limits, leaves = found["reflectance_range"], found["leaves"]
    said = [f"{name} is {low} everywhere" for name, (low, high) in limits.items() if low == high]
    said += [f"{name} goes down to {low}" for name, (low, _) in limits.items() if low < DARKEST]
    said += [
        f"{name} reaches {high} and may be cut off there" for name, (_, high) in limits.items() if high > BRIGHTEST
    ]
    dark = [low for name, (low, _) in limits.items() if name != "B10"]
    if dark and min(dark) >= OFFSET:
        said.append(f"no pixel of any band is below {min(dark)}: the offset of 1,000 seems not to be taken off")
    for orbit in found["radar"].values():
        spans = orbit["decibel_x100_range"].items()
        linear = [name for name, (low, _) in spans if name.endswith(BACKSCATTER) and low >= 0]
        said += [f"{name} is nowhere below 0 dB: it seems not to be in decibel" for name in linear]
    near = leaves["reflectance"].get("B08")
    if leaves["pixels"] >= ENOUGH and near is not None and not NEAR_INFRARED[0] <= near <= NEAR_INFRARED[1]:
        said.append(f"leaves reflect {near:.0f} in B08, usual is {NEAR_INFRARED[0]} to {NEAR_INFRARED[1]}")
    return said
