"""Colours: a class has one colour, in every figure, map and GeoTIFF legend.

Classes: Paul Tol's muted scheme, then his light one (safe for colour-blind readers, personal.sron.nl/~pault, technical
note SRON/EPS/TN/09-002), then the muted one darkened; classes left out of the scores are grey. Arms: Okabe and Ito.
"""

from collections.abc import Iterable

MUTED = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
LIGHT = ("#77AADD", "#EE8866", "#EEDD88", "#FFAABB", "#99DDFF", "#44BB99", "#BBCC33", "#AAAA00")
DARK = ("#7A3D47", "#1E144F", "#857A47", "#0A471F", "#517A8F", "#511433", "#29665C", "#5C5C1F", "#662966")
GREY = ("#BBBBBB", "#888888", "#D5D5D5", "#6A6A6A")
ARMS = ("#8C8C8C", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


def of_classes(count: int, ignore: Iterable[int] = ()) -> list[str]:
    """A colour `#RRGGBB` for each of `count` classes; those in `ignore` are grey. Repeats after 26 scored classes."""
    colours, greys, left = (*MUTED, *LIGHT, *DARK), iter(GREY * count), set(ignore)
    scored = iter(colours * (count // len(colours) + 1))
    return [next(greys) if index in left else next(scored) for index in range(count)]


def of_arms(names: Iterable[str]) -> dict[str, str]:
    """A colour for each arm, in the study's order."""
    return {name: ARMS[index % len(ARMS)] for index, name in enumerate(names)}


def rgb(colour: str) -> tuple[int, int, int]:
    """`#RRGGBB` as three bytes."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
