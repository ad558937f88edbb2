"""The shares of the crops."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from stcln.study import Study

OUTSIDE = "(outside every class)"


def mix(mine: Mapping[str, Any], theirs: Sequence[Mapping[str, Any]], study: Study) -> dict[str, Any] | None:
    """Total variation between a season's shares of the scored classes and the mean of other seasons'.

    Args:
        mine: The season's validation.json.
        theirs: The others'.
        study: Says which classes are ignored.

    Returns:
        distance, the share of labelled pixels that would have to change class, 0 to 1; the class that differs most and
        both its shares. None where either side has no label.
    """
    own, seen = shares(mine, study), [other for found in theirs if (other := shares(found, study))]
    if not own or not seen:
        return None
    names = sorted({*own, *(name for other in seen for name in other)})
    usual = {name: sum(other.get(name, 0.0) for other in seen) / len(seen) for name in names}
    apart = {name: own.get(name, 0.0) - usual[name] for name in names}
    most = max(names, key=lambda name: abs(apart[name]))
    return {
        "distance": round(sum(map(abs, apart.values())) / 2, 4), "most": most,
        "share": round(own.get(most, 0.0), 4), "usual": round(usual[most], 4),
    }  # fmt: skip


def shares(found: Mapping[str, Any], study: Study) -> dict[str, float]:
    """Of the labelled pixels of a validation.json, by class that is scored; empty where there are none."""
    pixels = Counter[str]()
    for counts in found["pixels_per_class"].values():
        pixels.update(counts)
    scored = {name: count for name, count in pixels.items() if name not in (OUTSIDE, *study.dataset.ignore) and count}
    total = sum(scored.values())
    return {name: count / total for name, count in scored.items()}
