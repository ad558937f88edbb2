"""A checkpoint: weights.safetensors, and a card.json that rebuilds the network and says how to use it.

Beside a pre-trained encoder lies head.safetensors, with which it fills in what is hidden. Plain data: loading one runs
no code from it.
"""

from datetime import date
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from stcln.errors import BadInput
from stcln.model.encoder import Encoder
from stcln.model.network import STCLN, Config, Reconstructor, Size
from stcln.storage import read_json, write_json
from stcln.study import first_day

WEIGHTS, CARD, HEAD = "weights.safetensors", "card.json", "head.safetensors"
ENCODER = "encoder."  # what a pre-training network's names of its encoder's tensors begin with
REMEDY = "run the step that writes it again, or restore it with `dvc checkout`"


class Card(BaseModel):
    """What a network is, and what it must be fed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["encoder", "classifier"]
    size: Size
    bands: tuple[str, ...] = Field(min_length=1)
    """Names, in the order of C."""
    classes: tuple[str, ...] = ()
    """Names, in the order of K; none for an encoder."""
    ignore: tuple[int, ...] = ()
    """Classes out of loss and metrics."""
    mean: tuple[float, ...]
    """Of each band, reflectance x 10,000: images = (reflectance - mean) / std."""
    std: tuple[float, ...]
    window: int = Field(ge=1)
    """Side in pixels of the windows it was trained on."""
    method: dict[str, str]
    """The study's `method`, a switch a line."""
    length: dict[str, Any]
    """The rule on dates it was trained with, as in the study."""
    length_name: str
    season: str
    season_start: str
    """Day 0 of positions, as in the study: MM-DD; months from July on fall in the year before the season's name."""
    seed: int
    metrics: dict[str, float] = {}
    selection: str = ""
    """How it was chosen among the models of a study, and what that means for `metrics`; empty if it was not."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if not len(self.bands) == len(self.mean) == len(self.std):
            raise ValueError(f"{len(self.bands)} bands, {len(self.mean)} means, {len(self.std)} standard deviations")
        if not all(value > 0 for value in self.std):
            raise ValueError(f"std {list(self.std)} is not positive throughout")
        if (self.kind == "classifier") != bool(self.classes):
            raise ValueError(f"{len(self.classes)} classes for kind {self.kind}")
        if beyond := [index for index in self.ignore if not 0 <= index < len(self.classes)]:
            raise ValueError(f"ignore: {beyond} are not among {len(self.classes)} classes")
        return self

    def start(self, season: str) -> date:
        """Day 0 of a season's positions, as in training; a season store may have been made with another."""
        return first_day(self.season_start, season)

    def network(self) -> Encoder | STCLN:
        """A network of the card's dimensions, without storage for its weights."""
        config = Config.of(self.size, len(self.bands), len(self.classes))
        with torch.device("meta"):
            return STCLN(config) if self.kind == "classifier" else config.encoder()


def save(directory: Path, network: Encoder | STCLN, card: Card) -> None:
    """Write weights.safetensors and card.json into an existing directory; equal networks give equal bytes.

    Raises:
        BadInput: The network is not the one that the card describes.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    _compare(directory / CARD, state, card.network())
    (directory / WEIGHTS).write_bytes(as_bytes(state))  # safetensors' own writing hides why a disk refuses
    write_json(directory / CARD, card.model_dump(mode="json"))


def save_head(directory: Path, network: Reconstructor) -> None:
    """Write head.safetensors: what a pre-training network has beside its encoder, which `save` writes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    (directory / HEAD).write_bytes(as_bytes({n: t for n, t in state.items() if not n.startswith(ENCODER)}))


def read_card(directory: Path) -> Card:
    """Read and check card.json.

    Raises:
        BadInput: It is missing, not JSON, or a field is unknown, absent or contradicts another; the first is named.
    """
    path = directory / CARD
    if not path.exists() and (seeds := sorted(at.name for at in directory.glob("seed-*"))):
        raise BadInput(directory, f"it holds one model a seed: {', '.join(seeds)}", "name one of them")
    try:
        return Card.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "card"
        raise BadInput(f"{path}, field {field}", first["msg"].removeprefix("Value error, "), REMEDY) from None


def load(directory: Path, device: torch.device | str = "cpu") -> tuple[Encoder | STCLN, Card]:
    """Rebuild a network from its directory, in evaluation mode.

    Raises:
        BadInput: A file is missing or broken, or weights and card disagree; the first mismatch is named.
    """
    card = read_card(directory)
    network = card.network()
    state = _read(directory / WEIGHTS, network)
    network = network.to_empty(device=device)
    network.load_state_dict(state)
    return network.eval(), card


def load_classifier(directory: Path, device: torch.device | str = "cpu") -> tuple[STCLN, Card]:
    """As `load`, where only a classifier will do."""
    network, card = load(directory, device)
    if not isinstance(network, STCLN):
        raise BadInput(directory / CARD, "it is an encoder, which knows no classes", "give a fine-tuned model")
    return network, card


def load_encoder(directory: Path, device: torch.device | str = "cpu") -> tuple[Encoder, Card]:
    """As `load`, where only an encoder will do."""
    network, card = load(directory, device)
    if not isinstance(network, Encoder):
        raise BadInput(directory / CARD, "it is a classifier", "give a pre-trained encoder")
    return network, card


def load_reconstructor(directory: Path, device: torch.device | str = "cpu") -> tuple[Reconstructor, Card]:
    """The network that pre-training left, encoder and head, in evaluation mode.

    Raises:
        BadInput: As `load`; or there is no head, as older versions wrote none.
    """
    encoder, card = load_encoder(directory, device)
    network = Reconstructor(encoder).to(device)
    head = nn.Module()
    head.predict, head.token = network.predict, network.token
    head.load_state_dict(_read(directory / HEAD, head))
    return network.eval(), card


def _read(path: Path, network: nn.Module) -> dict[str, Tensor]:
    """The tensors of a file, if they are finite and those of a network."""
    try:
        state = load_file(path)
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", REMEDY) from None
    except (SafetensorError, OSError, ValueError) as error:
        raise BadInput(path, f"not a safetensors file: {error}", REMEDY) from None
    _compare(path, state, network)
    if broken := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        raise BadInput(path, f"{broken[0]} is not finite", REMEDY)
    return state


def _compare(where: Path, state: dict[str, Tensor], network: nn.Module) -> None:
    """Refuse tensors that are not those of the network, name by name, shape by shape, kind of number by kind."""
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted.keys() - state.keys()]
    problems += [f"{name} is unknown" for name in state.keys() - wanted.keys()]
    for name in wanted.keys() & state.keys():
        found, right = state[name], wanted[name]
        if found.shape != right.shape or found.dtype != right.dtype:
            problems.append(
                f"{name} is {found.dtype} {list(found.shape)}, the card's network has {right.dtype} {list(right.shape)}"
            )
    if problems:
        problem = f"{len(problems)} tensors do not fit the card: {', '.join(sorted(problems)[:3])}"
        raise BadInput(where, problem, "keep weights and card of one run together")
