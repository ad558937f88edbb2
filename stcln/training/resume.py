"""State of an unfinished run: weights, best weights, optimiser, history; as data, written whole at every epoch's end.

No state of a random number generator is kept: every draw is a function of (seed, epoch, step).
"""

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stcln.errors import BadInput
from stcln.events import Reporter
from stcln.stages import name_of, write_lineage
from stcln.storage import digest, read_json, whole_directory, write_json
from stcln.training.distributed import Team
from stcln.workspace import Workspace

Tensors = dict[str, Tensor]


@dataclass
class Run:
    """A run so far.

    Attributes:
        epochs: One record an epoch: epoch (from 1), loss, validation, and counts.
        best_epoch: The epoch with the best validation score; 0 before the first.
        best: Its weights.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: Tensors = field(default_factory=dict)

    @property
    def validation(self) -> float:
        """The best validation score."""
        return float(self.epochs[self.best_epoch - 1]["validation"])


@dataclass(frozen=True)
class Resume:
    """Where a run keeps its state.

    Attributes:
        directory: Holds weights, best and optimiser as safetensors, and state.json with their md5.
        identity: What the run is; a state with another one is foreign.
        reporter: Is told when a state is taken up or refused.
    """

    directory: Path
    identity: str
    reporter: Reporter

    def save(self, network: nn.Module, optimiser: torch.optim.Optimizer, run: Run) -> None:
        """Replace the state."""
        moments = {
            f"{i}.{name}": value for i, slot in optimiser.state_dict()["state"].items() for name, value in slot.items()
        }
        parts = {"weights": network.state_dict(), "best": run.best, "optimiser": moments}
        with whole_directory(self.directory) as part:
            for name, tensors in parts.items():
                save_file(
                    {key: t.detach().cpu().contiguous() for key, t in tensors.items()}, part / f"{name}.safetensors"
                )
            files = {f"{name}.safetensors": digest(part / f"{name}.safetensors") for name in parts}
            state = {"identity": self.identity, "files": files, "epochs": run.epochs, "best_epoch": run.best_epoch}
            write_json(part / "state.json", state)

    def restore(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> Run:
        """Load the state into network and optimiser; a run from the start if there is none or it does not fit."""
        if not self.directory.exists():
            return Run()
        if problem := self._problem():
            self.reporter.note(
                f"resume state refused, training starts afresh: {problem}", {"path": str(self.directory)}
            )
            shutil.rmtree(self.directory)
            return Run()
        state, weights, best, moments = self._read()
        network.load_state_dict(weights)
        slots: dict[int, Tensors] = {}
        for key, value in moments.items():
            index, name = key.split(".", 1)
            slots.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
        self.reporter.note("resumed", {"epoch": len(state["epochs"]), "path": str(self.directory)})
        return Run(state["epochs"], state["best_epoch"], best)

    def _problem(self) -> str:
        """Why the state cannot be used; empty: it can."""
        try:
            state = read_json(self.directory / "state.json")
            if state["identity"] != self.identity:
                return "it belongs to other data, parameters or code"
            torn = [name for name, md5 in state["files"].items() if digest(self.directory / name) != md5]
        except (BadInput, OSError, KeyError, TypeError, AttributeError) as error:
            return f"it is torn ({error})"
        return f"it is torn ({', '.join(torn)})" if torn else ""

    def _read(self) -> tuple[dict[str, Any], Tensors, Tensors, Tensors]:
        weights, best, optimiser = (
            load_file(self.directory / f"{name}.safetensors") for name in ("weights", "best", "optimiser")
        )
        return read_json(self.directory / "state.json"), weights, best, optimiser


@dataclass(frozen=True)
class Stage:
    """The resume state of a whole stage, which may hold several runs.

    Attributes:
        directory: Holds a directory a run.
        identity: What the stage is: the md5 of its inputs, parameters and code.
        reporter: For its runs.
        team: Its first process keeps the state; the others are told it.
    """

    directory: Path
    identity: str
    reporter: Reporter
    team: Team

    @classmethod
    def open(cls, workspace: Workspace, stage: str, reporter: Reporter, **keys: str) -> "Stage":
        """Begin or take up a stage."""
        directory, team, identity = workspace.resume(name_of(stage, **keys)), Team.here(), ""
        if team.leads:
            with whole_directory(directory / "stage") as part:
                write_lineage(part, workspace, stage, **keys)
            identity = digest(directory / "stage")
        return cls(directory, identity, reporter, team)

    def run(self, seed: int) -> Resume:
        """State of the run with a seed."""
        return Resume(self.directory / f"seed-{seed}", self.identity, self.reporter)

    def close(self) -> None:
        """The output stands: the state is no longer needed."""
        if self.team.leads:
            shutil.rmtree(self.directory)
