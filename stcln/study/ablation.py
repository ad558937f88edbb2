"""What a study tries beside itself: variants that change a few of its fields, and the questions they answer."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from stcln.study.part import Count, Name, Part

MAY_CHANGE = ("lengths", "arms", "model", "pretrain", "finetune", "method", "compute")
"""Sections that shape no season store: all variants read the same ones."""


class Ablation(Part):
    """Variants of a study, each trained and tested like it, over several seeds."""

    season: tuple[Name, ...] = Field(min_length=1)
    """Seasons whose labels are trained on; every variant is tested on all of `cells.season`."""
    length: Name
    """The one length of `cells.length` that is trained and tested."""
    seeds: Count = 5
    """Independent runs of a variant, pre-training included: run i is the study with seed `seed + i`."""
    variants: dict[Name, dict[str, Any]]
    """By name the fields that a variant changes, as they stand in the study: `{pretrain: {mask: {ratio: 0.6}}}`."""
    questions: dict[Name, tuple[Name, ...]] = Field(min_length=1)
    """By question the variants that answer it: the first is what the others are compared with, in a table of its own.
    A variant that changes nothing, `base: {}`, is the study itself."""

    @model_validator(mode="after")
    def _fits(self) -> "Ablation":
        asked = [name for names in self.questions.values() for name in names]
        if unknown := [name for name in asked if name not in self.variants]:
            raise ValueError(f"questions: {unknown} not among the variants {list(self.variants)}")
        if alone := [question for question, names in self.questions.items() if len(set(names)) < max(len(names), 2)]:
            raise ValueError(f"questions: {alone} must name two variants or more, each once")
        if unasked := [name for name in self.variants if name not in asked]:
            raise ValueError(f"variants: no question names {unasked}")
        for name, fields in self.variants.items():
            if shared := [section for section in fields if section not in MAY_CHANGE]:
                raise ValueError(f"variants.{name}: {shared} cannot differ between variants, only {list(MAY_CHANGE)}")
            if isinstance(switches := fields.get("method"), Mapping) and "lists" in switches:
                raise ValueError(f"variants.{name}: method.lists shapes the season stores, which variants share")
        return self


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Values with some of them changed, section by section."""
    out = dict(values)
    for key, change in changes.items():
        old = out.get(key)
        out[key] = merged(old, change) if isinstance(old, Mapping) and isinstance(change, Mapping) else change
    return out
