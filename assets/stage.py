"""What every asset needs from outside, as two small interfaces, and the one way in which an asset is materialised."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import dagster as dg

Metadata = Mapping[str, Any]
MADE = "made"
"""In a step's summary, what it tells the ledger."""


class Ledger(Protocol):
    """Knows what every stage runs, and which version of its output stands."""

    def held(self, stage: str) -> AbstractContextManager[None]:
        """Hold the stage for the length of the block; whoever else wants to materialise it waits."""

    def argv(self, stage: str) -> list[str]:
        """The command of a stage (`finetune@2017-d12-pretrained`), as words, its parameters resolved."""

    def version(self, stage: str) -> str | None:
        """The version of the stage's output if nothing it depends on has changed, else None.

        An output that is missing, or was made before from the same inputs, is brought back from the cache.
        """

    def versions(self, stages: Sequence[str]) -> dict[str, str | None]:
        """`version` of several stages, given upstream first."""

    def standing(self, stages: Sequence[str]) -> set[str]:
        """Those stages whose recorded output stands. Restores nothing."""

    def commit(self, stage: str, made: Metadata | None = None) -> str:
        """Record the output that a run of the stage has just written; gives its version.

        Args:
            stage: Its name.
            made: What the step told the ledger of it, where it runs on another disk.
        """

    def bring(self, stage: str) -> Metadata:
        """Bring here what the UI shows of the output that stands, where it lies elsewhere; says where the rest is."""

    def bring_whole(self, stages: Sequence[str]) -> None:
        """Bring here all of the outputs that stand, where they lie elsewhere."""

    def restore(self, version: str, place: Path) -> None:
        """Put the files of an output of some time, by its version, into an empty directory.

        Raises:
            BadInput: Neither cache nor remote has them.
        """


class Notifier(Protocol):
    """Tells people who are not looking."""

    def tell(self, title: str, text: str, log: Callable[[str], None]) -> None:
        """Send a message to whoever asked for it; what cannot be sent is logged, and nothing is raised."""


class Runner(Protocol):
    """Runs a command somewhere."""

    def run(self, stage: str, argv: list[str], context: dg.AssetExecutionContext) -> Metadata:
        """Run a stage's command to its end, its progress told to `context`; gives the step's summary.

        Raises:
            dagster.Failure: The command failed.
        """


def materialise(
    context: dg.AssetExecutionContext,
    stage: str,
    ledger: Ledger,
    runner: Runner,
    describe: Callable[[], Metadata],
    again: bool = False,
) -> dg.MaterializeResult[Any]:
    """Materialise an asset: run its stage unless its version stands, record it, show it.

    Args:
        context: The asset's context.
        stage: The stage's name in dvc.yaml.
        ledger: Holds the versions.
        runner: Runs the stage's command.
        describe: Reads the metadata to show from the stage's output.
        again: Run even though a version stands: the world outside may have changed.

    Returns:
        A result whose data version is the ledger's. What `describe` gives stands first, and over the step's summary.
    """
    began = time.perf_counter()
    summary: dict[str, Any] = {}
    with ledger.held(stage):
        version = None if again else ledger.version(stage)
        if computed := version is None:
            summary = dict(runner.run(stage, ledger.argv(stage), context))
            version = ledger.commit(stage, summary.pop(MADE, None))
        else:
            context.log.info(f"{stage}: nothing it depends on has changed; version {version} stands")
        assert version is not None
        elsewhere = ledger.bring(stage)
        shown = {**describe(), **elsewhere}
    return dg.MaterializeResult(
        data_version=dg.DataVersion(version),
        metadata={
            **shown,
            **{name: value for name, value in numbers(summary).items() if name not in shown},
            "stage": stage,
            "computed": computed,
            "seconds": round(time.perf_counter() - began, 3),
        },
    )


def numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    """A summary as metadata: numbers as floats of six digits, so that every one of them plots over time."""
    numeric = (int, float)
    return {
        name: float(f"{value:.6g}") if isinstance(value, numeric) and not isinstance(value, bool) else value
        for name, value in summary.items()
    }
