"""The encoder: convolutions on every date alone, then self-attention along the dates of every pixel alone.

A mask here is true where a pixel was SEEN. What it leaves out is never read: not as a value, not in a statistic.
"""

from itertools import product, repeat

import torch
from torch import Tensor, nn

from stcln.model.attention import attend, precise
from stcln.model.dropout import drop, rectify_and_drop

DROPOUT = 0.1
ANGLE_BASE = 1000.0
TOKENS = 2_048  # pixels x dates at once on a CPU: what lies between two products stays in its cache
CUDA_TOKENS = 131_072  # on a CUDA device where no gradient is needed; the base size takes about 10 kB for each


def visible(valid: Tensor, size: tuple[int, int]) -> Tensor:
    """The dates that count for each pixel.

    A pixel without a valid date has seen every real date, a date being real if any pixel of the sample is valid in it:
    there is then something to attend to, and a neighbourhood to tell the class by.

    Args:
        valid: bool [B,T] or [B,T,H,W].
        size: (H, W).

    Returns:
        bool [B,T,H,W] with at least one date for every pixel.
    """
    if valid.dim() == 2:
        valid = valid[:, :, None, None].expand(-1, -1, *size)
    real = valid.any(dim=3, keepdim=True).any(dim=2, keepdim=True)
    real = real | ~real.any(dim=1, keepdim=True)
    return valid | (real & ~valid.any(dim=1, keepdim=True))


def hiding(valid: Tensor | None) -> Tensor | None:
    """A mask that hides something, or None. A CUDA device is not asked: it would have to be waited for."""
    if valid is None or valid.device.type != "cpu" or torch.compiler.is_compiling():
        return valid
    return None if bool(valid.all()) else valid


def encode_positions(positions: Tensor, width: int, heads: int) -> Tensor:
    """Sine on even channels and cosine on odd ones, of position / 1000^(2 floor(i/2) / (D/h)); the same for every head.

    Args:
        positions: int64 [B,T], days since the season's start (or the index of the date).
        width: D.
        heads: h.

    Returns:
        float32 [B,T,D].
    """
    channel = torch.arange(width // heads, device=positions.device)
    period = ANGLE_BASE ** (2 * (channel // 2).float() / (width // heads))
    angle = positions[..., None].float() / period
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).repeat(1, 1, heads)


class DoubleConv(nn.Sequential):
    """Twice (3x3 convolution, BatchNorm, ReLU): [N,inputs,H,W] -> [N,outputs,H,W]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class SeriesNorm(nn.Module):
    """GroupNorm over the series of a pixel: statistics over a group's channels and the dates that were seen."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, series: Tensor, seen: Tensor | None, places: Tensor) -> Tensor:
        """Normalise [B,P,T,D] in float32 or better and add places [B,1,T,D]; seen: bool [B,P,T] or None for all."""
        grouped = precise(series).view(*series.shape[:-1], self.groups, -1)
        variance, mean = torch.var_mean(grouped, dim=-1, correction=0)  # [B,P,T,groups], of each date alone
        share = torch.ones_like(mean[..., :1]) if seen is None else seen[..., None].to(mean.dtype)
        share = share / share.sum(dim=-2, keepdim=True)
        centre = (share * mean).sum(dim=-2, keepdim=True)
        spread = (share * (variance + (mean - centre).square())).sum(dim=-2, keepdim=True)
        scale = torch.rsqrt(spread + 1e-5)[..., None] * self.weight.view(self.groups, -1)
        shift = self.bias - (centre[..., None] * scale).flatten(-2)
        return torch.addcmul(places + shift, grouped.flatten(-2), scale.flatten(-2))  # keeps nothing that is not there


class Layer(nn.Module):
    """A post-norm transformer layer along time."""

    def __init__(self, width: int, heads: int, feedforward: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.widen = nn.Linear(width, feedforward)
        self.narrow = nn.Linear(feedforward, width)
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(DROPOUT)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, series: Tensor, seen: Tensor | None) -> Tensor:
        """[N,T,D] -> [N,T,D]; nobody looks at a date that seen (bool [N,T]) leaves out."""
        p = self.dropout.p if self.training else 0.0
        tokens = series.flatten(0, 1)  # of two axes, so that what a linear layer returns is no view, see `drop`
        mixed = attend(self.qkv(tokens).view(*series.shape[:2], -1), self.heads, seen, p)
        tokens = self.norm1(tokens + drop(self.out(mixed.flatten(0, 1)), p))
        hidden = rectify_and_drop(self.widen(tokens), p)
        result: Tensor = self.norm2(tokens + drop(self.narrow(hidden), p))
        return result.view(series.shape)


class Encoder(nn.Module):
    """Images of a season -> features of every pixel on every date.

    After Qin et al., JAG 2025, doi 10.1016/j.jag.2025.104426; all sizes but the published one are ours.

    Args:
        bands: C.
        stem: Width of the first double convolution.
        width: D.
        heads: Attention heads h, and groups of the norm before them.
        layers: Transformer layers.
        feedforward: Width inside a layer.
    """

    def __init__(self, bands: int, stem: int, width: int, heads: int, layers: int, feedforward: int) -> None:
        super().__init__()
        self.bands, self.width, self.heads = bands, width, heads
        self.stem = DoubleConv(bands, stem)
        self.body = DoubleConv(stem, width)
        self.norm = SeriesNorm(width, heads)
        self.layers = nn.ModuleList(Layer(width, heads, feedforward) for _ in range(layers))

    def forward(self, images: Tensor, positions: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Encode.

        Args:
            images: float32 [B,T,C,H,W], normalised. Values that are not valid may be anything.
            positions: int64 [B,T].
            valid: bool [B,T] (real, not padded, dates) or [B,T,H,W] (pixels); None: all.

        Returns:
            Temporal features [B,H,W,T,D] and spatial features [B,T,D,H,W]; both are 0 where a date does not count.
        """
        B, T, _, H, W = images.shape
        seen = None
        valid = hiding(valid)
        if valid is not None:
            seen = visible(valid, (H, W))
            images = images.masked_fill(~valid.view(*valid.shape[:2], 1, *(valid.shape[2:] or (1, 1))), 0.0)
        series = self._convolve(images, seen)
        dates = None if seen is None else seen.flatten(2).transpose(1, 2)  # [B,HW,T]
        if dates is not None:
            series = series.masked_fill(~dates[..., None], 0.0)
        temporal = self._along_time(series, positions, dates)
        if dates is not None:
            temporal = temporal.masked_fill(~dates[..., None], 0.0)
        temporal, series = (features.view(B, H, W, T, self.width) for features in (temporal, series))
        return temporal, series.permute(0, 3, 4, 1, 2)

    def _convolve(self, images: Tensor, seen: Tensor | None) -> Tensor:
        """[B,T,C,H,W] -> [B,HW,T,D]. In training only real dates are convolved: BatchNorm learns from nothing else."""
        if not (self.training or torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return self._convolve_in_parts(images)
        B, T = images.shape[:2]
        flat = images.flatten(0, 1)
        if seen is None or not self.training:
            dense = self._features(flat)
        else:
            real = seen.flatten(2).any(dim=2).flatten()
            some = self._features(flat[real])
            dense = some.new_zeros(B * T, *some.shape[1:]).index_put((real,), some)
        return dense.view(B, T, -1, self.width).transpose(1, 2).contiguous()

    def _convolve_in_parts(self, images: Tensor) -> Tensor:
        """As `_convolve`, some dates after the others, each put where it belongs."""
        B, T, _, H, W = images.shape
        series: Tensor | None = None
        step = max(1, _at_once(images) // (H * W))
        for b, start in product(range(B), range(0, T, step)):
            features = self._features(images[b, start : start + step]).flatten(1, 2)
            if series is None:
                series = features.new_empty(B, H * W, T, self.width)
            series[b, :, start : start + step] = features.transpose(0, 1)
        assert series is not None
        return series

    def _features(self, images: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,H,W,D]."""
        dense: Tensor = self.body(self.stem(images.contiguous(memory_format=torch.channels_last)))
        return dense.permute(0, 2, 3, 1)

    def _along_time(self, series: Tensor, positions: Tensor, seen: Tensor | None) -> Tensor:
        """[B,HW,T,D] -> the same, some pixels after the others."""
        places = encode_positions(positions, self.width, self.heads)[:, None]
        B, P, T, _ = series.shape
        step = max(1, _at_once(series) // (B * T))
        if step >= P or torch.compiler.is_compiling():
            return self._transform(series, places, seen)
        masks = [None] * P if seen is None else torch.split(seen, step, dim=1)
        done = (
            self._transform(*part)
            for part in zip(torch.split(series, step, dim=1), repeat(places), masks, strict=False)
        )
        if torch.is_grad_enabled():
            return torch.cat(list(done), dim=1)
        result = torch.empty_like(series, dtype=torch.promote_types(series.dtype, torch.float32))
        for start, some in zip(range(0, P, step), done, strict=True):
            result[:, start : start + step] = some
        return result

    def _transform(self, series: Tensor, places: Tensor, seen: Tensor | None) -> Tensor:
        """Norm, positions [B,1,T,D] and layers over series [B,P,T,D]; seen: bool [B,P,T]."""
        flat = None if seen is None else seen.flatten(0, 1)
        x: Tensor = self.norm(series, seen, places).flatten(0, 1)
        for layer in self.layers:
            x = layer(x, flat)
        return x.view(series.shape)


def _at_once(features: Tensor) -> int:
    """How many pixels x dates to compute at once."""
    if features.device.type == "cpu":
        return TOKENS
    return features.numel() if torch.is_grad_enabled() else CUDA_TOKENS
