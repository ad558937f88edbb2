"""The network as one ONNX file: written, read and run. It takes reflectance, and carries its card and its lineage.

onnx and onnxruntime are the extra `stcln[onnx]`; they are imported where they are used.
"""

import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor, nn

from stcln.errors import BadInput
from stcln.model.checkpoint import Card
from stcln.model.network import STCLN
from stcln.model.windows import Predictor, normalise

CARD_KEY = "stcln_card"
EXTRA = "pip install 'stcln[onnx]'"


class Served(nn.Module):
    """A classifier with its normalisation inside."""

    def __init__(self, network: STCLN, card: Card) -> None:
        super().__init__()
        self.network, self.card = network, card

    def forward(self, reflectance: Tensor, positions: Tensor, valid: Tensor) -> Tensor:
        """Classify.

        Args:
            reflectance: float32 [B,T,C,H,W], x 10,000.
            positions: int64 [B,T], days since the season's start.
            valid: bool [B,T,H,W], false where the network must not look.

        Returns:
            Logits float32 [B,K,H,W].
        """
        logits: Tensor = self.network(normalise(reflectance, self.card.mean, self.card.std), positions, valid)
        return logits


def example(B: int, T: int, C: int, side: tuple[int, int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Simulated inputs of a served network, with clouds and, where there are four dates or more, a padded one."""
    rng = torch.Generator().manual_seed(seed)
    reflectance = torch.rand((B, T, C, *side), generator=rng) * 4000
    positions = torch.randint(0, 366, (B, T), generator=rng).sort(dim=1).values
    valid = torch.rand((B, T, *side), generator=rng) > 0.2
    valid[:, 3::4] = False
    return reflectance, positions, valid


def write_onnx(path: Path, network: STCLN, card: Card, metadata: Mapping[str, str]) -> None:
    """Write the network as ONNX; B, T, H and W are free. The same network gives the same bytes on every machine.

    Args:
        path: File to write.
        network: A classifier in evaluation mode, on the CPU.
        card: Its card, put into the file's metadata.
        metadata: More entries for the metadata.

    Raises:
        BadInput: The extra `onnx` is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise BadInput("export", "onnx and onnxscript are not installed", EXTRA) from None
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # else it tells users that torchvision is not there
    B, T, H, W = (torch.export.Dim(name) for name in ("batch", "dates", "height", "width"))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            Served(network, card).eval(),
            example(2, 5, len(card.bands), (6, 7), seed=0),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: B, 1: T, 3: H, 4: W}, {0: B, 1: T}, {0: B, 1: T, 2: H, 3: W}),
            input_names=["reflectance", "positions", "valid"],
            output_names=["logits"],
        )
    assert program is not None
    proto = program.model_proto
    _forget_origin(proto)
    card_text = json.dumps(card.model_dump(mode="json"), sort_keys=True)
    onnx.helper.set_model_props(proto, {CARD_KEY: card_text, **metadata})
    path.write_bytes(proto.SerializeToString(deterministic=True))


def read_onnx(path: Path) -> tuple[Predictor, Card]:
    """A function that runs the file, and its card.

    Raises:
        BadInput: The file is missing, not ONNX, or without a card; or onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError:
        raise BadInput(path, "running an ONNX file needs onnxruntime", EXTRA) from None
    if not path.is_file():
        raise BadInput(path, "the file is missing", "run `python -m stcln export`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds have no common base
        raise BadInput(
            path, f"not an ONNX model: {str(error).splitlines()[0]}", "run `python -m stcln export`"
        ) from None
    text = session.get_modelmeta().custom_metadata_map.get(CARD_KEY)
    try:
        card = Card.model_validate_json(text or "")
    except ValidationError:
        raise BadInput(path, "it carries no card of stcln", "give a file that `python -m stcln export` wrote") from None

    def predict(
        reflectance: NDArray[np.float32], positions: NDArray[np.int64], valid: NDArray[np.bool_]
    ) -> NDArray[np.float32]:
        feed = {"reflectance": reflectance, "positions": positions, "valid": valid}
        logits: NDArray[np.float32] = session.run(["logits"], feed)[0]
        return logits

    return predict, card


def _forget_origin(proto: Any) -> None:
    """Drop what the exporter notes of source files and machines, so that bytes depend on the network alone."""
    graphs = [proto.graph, *proto.functions]
    for graph in graphs:
        for part in (graph, *graph.node, *graph.value_info, *getattr(graph, "initializer", ())):
            part.ClearField("doc_string")
            part.ClearField("metadata_props")
    for value in (*proto.graph.input, *proto.graph.output):
        value.ClearField("metadata_props")
    proto.ClearField("metadata_props")
