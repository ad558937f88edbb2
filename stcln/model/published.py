"""The authors' public checkpoints (XiaoleiQinn/STCLN), read as data: nothing pickled in one is ever run.

Two forms: a bare encoder, and a fine-tuned classifier as {epoch, model_state_dict, optimizer_state_dict} whose
encoder keys start with `utae.`. Half of the tensors in them took part in no forward pass; they are named and dropped.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from stcln.errors import BadInput
from stcln.events import Reporter, Silent
from stcln.model.encoder import Encoder
from stcln.model.network import STCLN, Config

REMEDY = "give one of the authors' checkpoints, checkpoint_<n>.<name>.tar or model_best.tar"

# Published name -> ours, of the encoder; the classifier's are the same below `utae.` and `encoder.`.
_RENAMED = (
    (r"inc\.double_conv", "stem"),
    (r"down1\.maxpool_conv\.0\.double_conv", "body"),
    (r"temporal_encoder\.in_norm", "norm"),
    (r"temporal_encoder\.layer_stack\.(\d+)\.self_attn\.in_proj_", r"layers.\1.qkv."),
    (r"temporal_encoder\.layer_stack\.(\d+)\.self_attn\.out_proj", r"layers.\1.out"),
    (r"temporal_encoder\.layer_stack\.(\d+)\.linear1", r"layers.\1.widen"),
    (r"temporal_encoder\.layer_stack\.(\d+)\.linear2", r"layers.\1.narrow"),
    (r"temporal_encoder\.layer_stack\.(\d+)\.(norm[12])", r"layers.\1.\2"),
)
_HEAD = {
    "conv1.weight": "head.query.weight",
    "conv2.weight": "head.key.weight",
    "conv3.weight": "head.value.weight",
    "l": "head.blend",
    "outlinear.weight": "head.classify.weight",
    "outlinear.bias": "head.classify.bias",
}
_DEAD = ("up3.", *(f"temporal_encoder.{part}." for part in ("inconv", "mlp", "out_norm", "transformer_encoder")))


def our_name(published: str) -> str | None:
    """Our name of a tensor in a public checkpoint; None for one that no forward pass ever used.

    Raises:
        KeyError: The published network has no such tensor.
    """
    if published in _HEAD:
        return _HEAD[published]
    name = published.removeprefix("utae.")
    if name.startswith(_DEAD):
        return None
    for pattern, ours in _RENAMED:
        renamed, count = re.subn(f"^{pattern}", ours, name)
        if count:
            return f"encoder.{renamed}" if published.startswith("utae.") else renamed
    raise KeyError(published)


def load_published(path: Path, reporter: Reporter | None = None) -> Encoder | STCLN:
    """Read a public checkpoint on the CPU, in evaluation mode; the dead tensors are noted to the reporter.

    Raises:
        BadInput: The file is missing, holds anything but tensors and plain values, or is not of this network.
    """
    state = _read(path)
    ours: dict[str, Tensor] = {}
    dead = []
    for published, tensor in state.items():
        try:
            name = our_name(published)
        except KeyError:
            raise BadInput(path, f"the tensor {published} is not of the published network", REMEDY) from None
        if name is None:
            dead.append(published)
        else:  # the 1x1 convolutions of the head are linear layers here
            ours[name] = tensor.flatten(1) if name.startswith("head.") and tensor.dim() == 4 else tensor
    if dead:
        (reporter or Silent()).note(f"{path}: dropped {len(dead)} tensors that no forward pass uses: {', '.join(dead)}")
    return _fill(path, ours)


def _read(path: Path) -> Mapping[str, Tensor]:
    """The state dict in the file, whichever of the two forms it has."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise BadInput(path, "the file is missing", REMEDY) from None
    except UnpicklingError:
        raise BadInput(path, "it is not a checkpoint, or asks to run code when read", REMEDY) from None
    except Exception as error:  # broken bytes fail in the unpickler in any way they like
        raise BadInput(path, f"not readable as a checkpoint ({type(error).__name__})", REMEDY) from None
    state = content.get("model_state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BadInput(path, "it does not hold a state dict of tensors", REMEDY)
    return state


def _fill(path: Path, state: dict[str, Tensor]) -> Encoder | STCLN:
    """The network whose tensors these are, dimensions taken from them."""
    whole = "head.classify.weight" in state
    try:
        bands = state["encoder.stem.0.weight" if whole else "stem.0.weight"].shape[1]
        config = Config.of("base", bands, len(state["head.classify.weight"]) if whole else 0)
        with torch.device("meta"):
            network = STCLN(config) if whole else config.encoder()
        network.to_empty(device="cpu").load_state_dict(state)
    except KeyError as error:
        raise BadInput(path, f"the tensor {error} is missing", REMEDY) from None
    except (IndexError, TypeError):
        raise BadInput(path, "a tensor that gives bands or classes has too few dimensions", REMEDY) from None
    except RuntimeError as error:
        raise BadInput(path, " ".join(str(error).split()), REMEDY) from None
    return network.eval()
