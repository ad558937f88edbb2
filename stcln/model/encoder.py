"""The encoder: convolutions on every date alone, then self-attention along the dates of every pixel alone.

A mask here is true where a pixel was SEEN. What it leaves out is never read: not as a value, not in a statistic.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DROPOUT = 0.1
ANGLE_BASE = 1000.0
TOKENS = 32_768  # pixels x dates at once where no gradient is needed; the base size takes about 10 kB for each


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

    def forward(self, series: Tensor, seen: Tensor | None) -> Tensor:
        """Normalise [N,T,D], in float32 whatever comes; seen: bool [N,T] or None for all."""
        grouped = series.float().reshape(*series.shape[:2], self.groups, -1)
        variance, mean = torch.var_mean(grouped, dim=-1, correction=0)  # [N,T,groups], of each date alone
        share = torch.ones_like(mean[..., :1]) if seen is None else seen[..., None].float()
        share = share / share.sum(dim=1, keepdim=True)
        centre = (share * mean).sum(dim=1, keepdim=True)
        spread = (share * (variance + (mean - centre).square())).sum(dim=1, keepdim=True)
        normal: Tensor = (grouped - centre[..., None]) * torch.rsqrt(spread + 1e-5)[..., None]
        return normal.flatten(-2) * self.weight + self.bias


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

    def attend(self, series: Tensor, seen: Tensor | None) -> Tensor:
        """Multi-head self-attention over [N,T,D]; nobody looks at a date that seen (bool [N,T]) leaves out."""
        N, T, D = series.shape
        query, key, value = self.qkv(series).view(N, T, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if seen is None else seen[:, None, None, :],
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        projected: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return projected

    def forward(self, series: Tensor, seen: Tensor | None) -> Tensor:
        """[N,T,D] -> [N,T,D]."""
        series = self.norm1(series + self.dropout(self.attend(series, seen)))
        hidden = self.dropout(F.relu(self.widen(series)))
        result: Tensor = self.norm2(series + self.dropout(self.narrow(hidden)))
        return result


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
        if valid is None:
            spatial = self._convolve(images, None)
            return self._along_time(spatial, positions, None), spatial
        seen = visible(valid, (images.shape[-2], images.shape[-1]))
        hidden = ~valid[:, :, None] if valid.dim() == 4 else ~valid[:, :, None, None, None]
        spatial = self._convolve(images.masked_fill(hidden, 0.0), seen)
        temporal = self._along_time(spatial, positions, seen)
        temporal = temporal.masked_fill(~seen.permute(0, 2, 3, 1)[..., None], 0.0)
        return temporal, spatial.masked_fill(~seen[:, :, None], 0.0)

    def _convolve(self, images: Tensor, seen: Tensor | None) -> Tensor:
        """[B,T,C,H,W] -> [B,T,D,H,W]. In training only real dates are convolved: BatchNorm learns from nothing else."""
        B, T = images.shape[:2]
        flat = images.flatten(0, 1)
        if seen is None or not self.training:
            features: Tensor = self.body(self.stem(flat))
            return features.view(B, T, *features.shape[1:])
        real = seen.flatten(2).any(dim=2).flatten()
        dense: Tensor = self.body(self.stem(flat[real]))
        return dense.new_zeros(B * T, *dense.shape[1:]).index_put((real,), dense).view(B, T, *dense.shape[1:])

    def _along_time(self, spatial: Tensor, positions: Tensor, seen: Tensor | None) -> Tensor:
        """[B,T,D,H,W] -> [B,H,W,T,D], all pixels at once, or part by part where no gradient is needed."""
        B, T, D, H, W = spatial.shape
        series = spatial.flatten(3).permute(0, 3, 1, 2)  # [B,HW,T,D]
        places = encode_positions(positions, self.width, self.heads)[:, None]
        dates = None if seen is None else seen.flatten(2).transpose(1, 2)  # [B,HW,T]
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._transform(series, places, dates).view(B, H, W, T, D)
        step = max(1, TOKENS // (B * T))
        parts = [slice(start, start + step) for start in range(0, H * W, step)]
        done = [self._transform(series[:, p], places, None if dates is None else dates[:, p]) for p in parts]
        return torch.cat(done, dim=1).view(B, H, W, T, D)

    def _transform(self, series: Tensor, places: Tensor, seen: Tensor | None) -> Tensor:
        """Norm, positions [B,1,T,D] and layers over series [B,P,T,D]; seen: bool [B,P,T]."""
        flat = None if seen is None else seen.flatten(0, 1)
        x: Tensor = self.norm(series.flatten(0, 1), flat).view(series.shape) + places
        x = x.flatten(0, 1)
        for layer in self.layers:
            x = layer(x, flat)
        return x.view(series.shape)
