"""The two networks: STCLN classifies pixels, Reconstructor pre-trains its encoder. And the sizes they come in."""

from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor, nn

from stcln.model.encoder import Encoder, hiding, visible
from stcln.model.heads import SpatioTemporalAttention

Size = Literal["tiny", "base", "large"]

_SIZES: dict[Size, tuple[int, int, int, int, int]] = {  # stem, width, heads, layers, feed-forward
    "tiny": (16, 64, 4, 2, 128),
    "base": (32, 256, 8, 3, 1024),
    "large": (64, 512, 8, 6, 2048),
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """The dimensions of a network."""

    bands: int
    """C."""
    classes: int
    """K; 0 where only the encoder is wanted."""
    stem: int
    """Width of the first double convolution."""
    width: int
    """D."""
    heads: int
    """Attention heads; D is a multiple of twice their number."""
    layers: int
    """Transformer layers."""
    feedforward: int
    """Width inside a layer."""

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 2 x {self.heads} heads")

    @classmethod
    def of(cls, size: Size, bands: int, classes: int = 0) -> Self:
        """The dimensions of a named size; `base` is the paper's."""
        stem, width, heads, layers, feedforward = _SIZES[size]
        return cls(
            bands=bands, classes=classes, stem=stem, width=width, heads=heads, layers=layers, feedforward=feedforward
        )

    def encoder(self) -> Encoder:
        """An encoder of these dimensions, with weights from torch's global generator."""
        return Encoder(self.bands, self.stem, self.width, self.heads, self.layers, self.feedforward)


class STCLN(nn.Module):
    """Images of a season -> a class for every pixel."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.encoder = config.encoder()
        self.head = SpatioTemporalAttention(config.width, config.classes)

    def forward(self, images: Tensor, positions: Tensor, valid: Tensor | None = None) -> Tensor:
        """Classify.

        Args:
            images: float32 [B,T,C,H,W], normalised. Values that are not valid may be anything.
            positions: int64 [B,T], days since the season's start.
            valid: bool [B,T] (real, not padded, dates) or [B,T,H,W] (pixels); None: all.

        Returns:
            Logits float32 [B,K,H,W].
        """
        valid = hiding(valid)
        temporal, spatial = self.encoder(images, positions, valid)
        seen = None if valid is None else visible(valid, (images.shape[-2], images.shape[-1]))
        logits: Tensor = self.head(temporal, spatial, seen)
        return logits


class Reconstructor(nn.Module):
    """Pre-training: hidden pixels become one learnable scalar, and every band of them is predicted."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.predict = nn.Linear(encoder.width, encoder.bands)
        self.token = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor, positions: Tensor, hidden: Tensor, valid: Tensor | None = None) -> Tensor:
        """Predict all pixels from those that are not hidden.

        Args:
            images: float32 [B,T,C,H,W], normalised.
            positions: int64 [B,T].
            hidden: bool [B,T,H,W], true = HIDDEN from the encoder.
            valid: As for `STCLN`.

        Returns:
            float32 [B,T,C,H,W], normalised.
        """
        temporal, _ = self.encoder(torch.where(hidden[:, :, None], self.token, images), positions, valid)
        predicted: Tensor = self.predict(temporal)
        return predicted.float().permute(0, 3, 4, 1, 2)


def reconstruction_loss(predicted: Tensor, images: Tensor, hidden: Tensor, count: int | None = None) -> Tensor:
    """Mean squared error over hidden pixels and all their bands; 0 where nothing is hidden.

    Args:
        predicted: float32 [B,T,C,H,W].
        images: float32 [B,T,C,H,W].
        hidden: bool [B,T,H,W], true = HIDDEN.
        count: How many pixels the mean is over, where others have some of them too: this is then their share of it.
    """
    error = (predicted - images).square().mean(dim=2)
    pixels = hidden.sum() if count is None else torch.tensor(count, device=hidden.device)
    return torch.where(hidden, error, 0.0).sum() / pixels.clamp(min=1)


def build(config: Config, seed: int) -> STCLN:
    """A classifier with random weights, the same for the same seed; torch's global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return STCLN(config)


def build_reconstructor(config: Config, seed: int) -> Reconstructor:
    """A pre-training network with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Reconstructor(config.encoder())
