"""The rule that turns three numbers into a decision and its sentence."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from stcln.study import Drift

Decision = Literal["reuse", "fine-tune", "pre-train again"]
Found = Mapping[str, Any]


def decide(season: str, others: Sequence[str], found: Mapping[str, Found | None], rule: Drift) -> tuple[Decision, str]:
    """What a season asks for, by the thresholds of `drift` in params.yaml.

    An encoder that no longer fills in what is hidden does not know this kind of series: pre-train again, with the
    season. One that does, on a season whose crops grow at other times, in other shares or are filled in a little worse,
    is a good start: fine-tune; so is one of which NDVI or the encoder's error is not known. Else the models of the
    other seasons may map it as they are: reuse.

    Args:
        season: Its name.
        others: What it was compared with.
        found: `reconstruction` (absent where the study has no encoder), `ndvi` and `classes` of drift.json; None where
            there was nothing to compare.
        rule: The thresholds.

    Returns:
        The decision, and the sentence that gives it with its numbers.
    """
    if not any(found.values()):
        return "fine-tune", "Fine-tune: there is nothing in common with another season to compare it with."
    error, ndvi, classes = found.get("reconstruction"), found["ndvi"], found["classes"]
    unmeasured = not ndvi or ("reconstruction" in found and not error)
    decision: Decision = "reuse"
    if (
        unmeasured
        or (ndvi and ndvi["distance"] > rule.ndvi)
        or (classes and classes["distance"] > rule.classes)
        or (error and error["ratio"] > rule.error)
    ):
        decision = "fine-tune"
    if error and error["ratio"] > rule.error_again:
        decision = "pre-train again"
    said = [_error(error, rule) if "reconstruction" in found else "", _ndvi(ndvi, rule), _classes(classes, rule)]
    return decision, f"{decision.capitalize()}: against {' and '.join(others)}, {'; '.join(filter(None, said))}."


def distances(found: Mapping[str, Any]) -> dict[str, float]:
    """The three numbers of a drift.json that a decision rests on, as far as they could be had."""
    fields: Sequence[tuple[str, str, str]] = (
        ("error_ratio", "reconstruction", "ratio"), ("ndvi_distance", "ndvi", "distance"),
        ("class_distance", "classes", "distance"),
    )  # fmt: skip
    return {name: part[field] for name, key, field in fields if (part := found.get(key))}


def _error(found: Found | None, rule: Drift) -> str:
    if not found:
        return "the encoder was not tried: one side has no tile that it was not trained on and that is green enough"
    return (
        f"the encoder fills in {found['season']['tiles']} tiles with {found['ratio']:.2f} times the error of "
        f"{found['others']['tiles']} held-out ones (reuse up to {rule.error:g}, pre-train again above "
        f"{rule.error_again:g})"
    )


def _ndvi(found: Found | None, rule: Drift) -> str:
    if not found:
        return "there is no NDVI in a month that both have"
    return (
        f"NDVI lies {found['distance']:.3f} away, mean over {found['classes']} curves and {found['months']} months "
        f"(reuse up to {rule.ndvi:g}), most for {found['most']} in month {found['month']}, {found['by']:+.2f}"
    )


def _classes(found: Found | None, rule: Drift) -> str:
    if not found:
        return "there are no labels to compare the crops' shares by"
    return (
        f"the crops' shares differ by {found['distance']:.1%} of the pixels (reuse up to {rule.classes:.0%}), most for "
        f"{found['most']}, {found['share']:.1%} instead of {found['usual']:.1%}"
    )
