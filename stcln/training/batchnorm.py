"""BatchNorm over the images of all processes of a team, on CPU and CUDA: torch's own knows CUDA alone."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

PLACES = (0, 2, 3)  # the axes of [N,C,H,W] that a statistic goes over


class TeamBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d`, weights and names too, whose statistics are those of the images of all processes together.

    Attributes:
        blank: The images of this process stand for none: they are normalised, and no statistic knows them.
    """

    blank = False

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N,C,H,W]; in training every process of the team must be here, with any N > 0."""
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            mean, variance, pixels = self._statistics(x)
            self._remember(mean, variance * pixels / (pixels - 1))
        parts = (x, self.weight, self.bias, mean, variance, pixels, self.eps, self.blank)
        y: Tensor = _Normalise.apply(*parts)  # type: ignore[no-untyped-call]
        return y

    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean [C], variance [C] and number of pixels [1] of the team, put together from each process's own."""
        variance, mean = torch.var_mean(x.float(), dim=PLACES, correction=0)
        own = torch.cat([mean.new_full((1,), 0 if self.blank else x.numel() // x.shape[1]), mean, variance])
        every = [torch.empty_like(own) for _ in range(dist.get_world_size())]
        dist.all_gather(every, own)
        gathered = torch.stack(every).double()
        pixels, means, variances = gathered[:, :1], gathered[:, 1 : 1 + len(mean)], gathered[:, 1 + len(mean) :]
        total = pixels.sum(dim=0)
        share = pixels / total
        mean = (share * means).sum(dim=0)
        variance = (share * (variances + (means - mean).square())).sum(dim=0)
        return mean.float(), variance.float(), total.float()


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) x weight + bias, where mean and variance are functions of everybody's x."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, pixels: Tensor,
        eps: float, blank: bool,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(variance + eps), pixels)
        ctx.blank = blank
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, pixels = ctx.saved_tensors
        dy = gradients[0].float()
        normal = (x.float() - mean[:, None, None]) * scale[:, None, None]
        own = torch.stack([dy.sum(PLACES), (dy * normal).sum(PLACES)])
        total = own.clone()
        dist.all_reduce(total)
        if not ctx.blank:  # of a blank image no statistic depends
            bias, slope = (total / pixels)[:, :, None, None]
            dy = dy - bias - normal * slope
        dx = (dy * (weight * scale)[:, None, None]).to(x.dtype)
        return dx, own[1], own[0], None, None, None, None, None


def put_together(network: nn.Module) -> nn.Module:
    """The network with every BatchNorm replaced by one of the team that has the same weights and statistics."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            with torch.device("meta"):
                norm = TeamBatchNorm(child.num_features, child.eps, child.momentum)
            norm.load_state_dict(child.state_dict(), assign=True)
            setattr(network, name, norm.train(child.training))
        else:
            put_together(child)
    return network


def blank(network: nn.Module, *, now: bool) -> None:
    """Tell the BatchNorms whether the images of this process stand for none, until they are told otherwise."""
    for module in network.modules():
        if isinstance(module, TeamBatchNorm):
            module.blank = now
