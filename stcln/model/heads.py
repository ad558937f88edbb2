"""The classification head. The pre-training head is one linear layer and stands in `network`."""

import torch
from torch import Tensor, nn

from stcln.model.attention import precise

SCORES = 1 << 22  # pairs of pixels scored at once where no gradient is needed


def _mix(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    """Softmax attention of [B,P,E] over [B,Q,E] on values [B,Q,D], `precise`: a score sums T x D products."""
    with torch.autocast(query.device.type, enabled=False):
        scores = scale * (precise(query) @ precise(key).transpose(1, 2))
        return scores.softmax(dim=-1) @ precise(value)


class SpatioTemporalAttention(nn.Module):
    """Each pixel borrows from pixels whose spatial features resemble its temporal ones, then a linear layer decides.

    A = softmax over pixels of Q K^T / sqrt(D), with Q from the temporal and K from the spatial features of all dates, V
    from the maximum over time; logits = linear(l A V + V). A date that one of two pixels did not see adds nothing to
    their likeness.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.blend = nn.Parameter(torch.zeros(1))
        self.classify = nn.Linear(width, classes)

    def forward(self, temporal: Tensor, spatial: Tensor, seen: Tensor | None) -> Tensor:
        """Classify.

        Args:
            temporal: [B,H,W,T,D], 0 where not seen.
            spatial: [B,T,D,H,W], 0 where not seen.
            seen: bool [B,T,H,W], at least one date for every pixel; None: all.

        Returns:
            Logits float32 [B,K,H,W].
        """
        B, H, W, _, D = temporal.shape
        likeness = self.query.weight.t() @ self.key.weight  # both projections in one: (W1 t) (W2 s) = t (W1' W2) s
        if seen is None:
            peak = temporal.amax(dim=3)
        else:
            peak = temporal.masked_fill(~seen.permute(0, 2, 3, 1)[..., None], -torch.inf).amax(dim=3)
        value = self.value(peak).flatten(1, 2)  # [B,HW,D]
        key = spatial.permute(0, 3, 4, 1, 2).flatten(3).flatten(1, 2)  # [B,HW,TD]

        def mix(pixels: Tensor) -> Tensor:
            """[B,P,T,D] -> [B,P,D]."""
            return _mix((pixels @ likeness).flatten(2), key, value, D**-0.5)

        every = temporal.flatten(1, 2)
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            mixed = mix(every)
        else:
            rows = max(1, SCORES // (H * W))
            mixed = torch.cat([mix(some) for some in torch.split(every, rows, dim=1)], dim=1)
        logits: Tensor = self.classify(self.blend * mixed + value)
        return precise(logits).transpose(1, 2).reshape(B, -1, H, W)
