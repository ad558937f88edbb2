"""State of an unfinished run: weights, best weights, optimiser, history; as data, each save whole or not there at all.

No state of a random number generator is kept: every draw is a function of (seed, epoch, step).
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from stcln.errors import BadInput
from stcln.events import Reporter, Value
from stcln.stages import name_of, write_lineage
from stcln.storage import digest, read_json, synchronise, whole_directory
from stcln.training.distributed import Team
from stcln.workspace import Workspace

GENERATIONS = 2
"""States kept, the newest and those before it. They share no file: what tears one leaves the other."""
Tensors = dict[str, Tensor]


@dataclass
class Run:
    """A run so far.

    Attributes:
        epochs: One record an epoch: epoch (from 1), loss, validation, and counts.
        best_epoch: The epoch with the best validation score; 0 before the first.
        best: Its weights.
        losses: Of the steps done in the epoch that is not finished.
        counts: Summed over them.
        parts: In which a batch goes through the network.
        buffers: The network's after the last whole step: BatchNorm changes its own in the midst of one.
    """

    epochs: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int = 0
    best: Tensors = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    parts: int = 1
    buffers: Tensors = field(default_factory=dict)

    @property
    def validation(self) -> float:
        """The best validation score."""
        return float(self.epochs[self.best_epoch - 1]["validation"])


@dataclass(frozen=True)
class Resume:
    """Where a run keeps its state.

    Attributes:
        directory: Holds a directory a state, named by epochs and steps done, in which are weights, best and optimiser
            as safetensors, and state.json with their md5 and its own.
        identity: What the run is; a state with another one is foreign.
        reporter: Is told when a state is taken up or refused.
    """

    directory: Path
    identity: str
    reporter: Reporter

    def save(self, network: nn.Module, optimiser: torch.optim.Optimizer, run: Run) -> None:
        """Add the state as it was after the last whole step, and drop all but the newest ones.

        Raises:
            OSError: The disk is full, or refuses; the states before stand.
        """
        target = self.directory / f"{len(run.epochs):06}-{len(run.losses):08}"
        if target.exists():
            return
        weights = {name: run.buffers.get(name, value) for name, value in network.state_dict().items()}
        moments = {
            f"{i}.{name}": value for i, slot in optimiser.state_dict()["state"].items() for name, value in slot.items()
        }
        parts = {"weights": weights, "best": run.best, "optimiser": moments}
        state: dict[str, Any] = {"identity": self.identity, "files": {}}
        state |= {name: getattr(run, name) for name in ("epochs", "best_epoch", "losses", "counts", "parts")}
        with whole_directory(target) as part:
            for name, tensors in parts.items():
                data = as_bytes({key: value.detach().cpu().contiguous() for key, value in tensors.items()})
                state["files"][f"{name}.safetensors"] = hashlib.md5(data).hexdigest()
                (part / f"{name}.safetensors").write_bytes(data)
            (part / "state.json").write_text(json.dumps(state | {"md5": _seal(state)}, sort_keys=True, allow_nan=False))
            synchronise([*part.iterdir(), part])
        synchronise([self.directory])
        kept = self._generations()[-GENERATIONS:]
        for old in self.directory.iterdir():
            if old.is_dir() and old not in kept:  # or the half of a killed save
                shutil.rmtree(old)

    def restore(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> Run:
        """Load the newest state that is whole into network and optimiser; a run from the start if there is none."""
        found = self._generations()
        for at in reversed(found):
            if not (problem := self._problem(at)):
                return self._load(at, network, optimiser)
            self.reporter.note(f"resume state refused: {problem}", {"path": str(at)})
            shutil.rmtree(at)
        if found:
            self.reporter.note("no state is left to resume from, training starts afresh", {"path": str(self.directory)})
        return Run()

    def _generations(self) -> list[Path]:
        return sorted(path for path in self.directory.glob("[0-9]*") if path.is_dir())

    def _load(self, at: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> Run:
        weights, best, moments = (load_file(at / f"{name}.safetensors") for name in ("weights", "best", "optimiser"))
        state = read_json(at / "state.json")
        network.load_state_dict(weights)
        slots: dict[int, Tensors] = {}
        for key, value in moments.items():
            index, name = key.split(".", 1)
            slots.setdefault(int(index), {})[name] = value
        optimiser.load_state_dict({**optimiser.state_dict(), "state": slots})
        values: dict[str, Value] = {"epoch": len(state["epochs"]), "step": len(state["losses"]), "path": str(at)}
        self.reporter.note("resumed", values)
        return Run(state["epochs"], state["best_epoch"], best, state["losses"], state["counts"], state["parts"])

    def _problem(self, at: Path) -> str:
        """Why a state cannot be used; empty: it can."""
        try:
            state = read_json(at / "state.json")
            if state["identity"] != self.identity:
                return "it belongs to other data, parameters or code"
            if state.pop("md5", "") != _seal(state):
                return "it is torn (state.json)"
            torn = [name for name, md5 in state["files"].items() if digest(at / name) != md5]
        except (BadInput, OSError, KeyError, TypeError, AttributeError) as error:
            return f"it is torn ({error})"
        return f"it is torn ({', '.join(torn)})" if torn else ""


def _seal(state: dict[str, Any]) -> str:
    """The md5 of what state.json says, but for the md5."""
    return hashlib.md5(json.dumps(state, sort_keys=True, allow_nan=False).encode()).hexdigest()


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

    def close(self, output: Path) -> None:
        """The output stands: once it is safe on the disk, the state is no longer needed."""
        if self.team.leads:
            synchronise([*output.rglob("*"), output, output.parent])
            shutil.rmtree(self.directory)
