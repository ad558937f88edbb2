"""What is looked at before a promotion."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: What was looked at, in a few words.
        found: What was found, with its numbers.
        passed: Whether it speaks for the challenger.
        firm: Whether it holds against a person who forces the promotion.
    """

    what: str
    found: str
    passed: bool
    firm: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.found}"
