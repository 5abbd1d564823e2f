"""Depthwise convolutions whose gradients are quick on CPUs.

oneDNN has no vectorised kernels for some gradients of depthwise convolutions in bfloat16: those of 5×5 weights, and
those of the inputs at stride 2, take 40 to 60 times as long as the forward pass, a fifth of a training step. Both can
be written with kernels that it has (`benchmarks.training_step`).
"""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["QuickDepthwise", "quicken"]


class _Convolve(torch.autograd.Function):
    """``conv2d(x, weight, stride, padding, groups=channels)`` for square odd kernels and one stride for both axes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding, 1, len(weight))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight = ctx.needs_input_grad[:2]
        return (
            _grad_input(x, weight, grad, ctx.stride, ctx.padding) if wants_x else None,
            _grad_weight(x, weight, grad, ctx.stride, ctx.padding) if wants_weight else None,
            None,
            None,
        )


def _grad_input(x: Tensor, weight: Tensor, grad: Tensor, stride: int, padding: int) -> Tensor:
    size = weight.shape[-1]
    if stride == 1:
        return F.conv2d(grad, weight.flip(2, 3), None, 1, size - 1 - padding, 1, len(weight))
    # In float32: in bfloat16 oneDNN falls back to its reference loop.
    out = _gradients(grad.float(), x.float(), weight.float(), stride, padding, (True, False))[0]
    return out.to(x.dtype)


def _grad_weight(x: Tensor, weight: Tensor, grad: Tensor, stride: int, padding: int) -> Tensor:
    size = weight.shape[-1]
    if size == 3:
        return _gradients(grad, x, weight, stride, padding, (False, True))[1]
    # A k×k kernel's gradient holds those of the 3×3 kernels at each of its corners and between them.
    padded = F.pad(x, (padding,) * 4) if padding else x
    reach = [stride * (n - 1) + 3 for n in grad.shape[2:]]
    starts = [*range(0, size - 3, 3), size - 3]
    out = torch.empty_like(weight)
    for i in starts:
        for j in starts:
            part = padded[:, :, i : i + reach[0], j : j + reach[1]].contiguous(memory_format=torch.channels_last)
            out[:, :, i : i + 3, j : j + 3] = _gradients(
                grad, part, weight[:, :, :3, :3].contiguous(), stride, 0, (False, True)
            )[1]
    return out


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, wanted: tuple[bool, bool]
) -> tuple[Tensor, Tensor]:
    out = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], len(weight), [*wanted, False]
    )
    return cast("tuple[Tensor, Tensor]", out[:2])


class QuickDepthwise(nn.Module):
    """A depthwise `torch.nn.Conv2d` without bias, with quick gradients.

    Parameters
    ----------
    original : torch.nn.Conv2d
        Depthwise, without bias, with a square odd kernel of three or more; its parameter is shared.
    """

    def __init__(self, original: nn.Conv2d) -> None:
        super().__init__()
        self.weight = original.weight
        self._stride, self._padding = original.stride[0], int(original.padding[0])

    def forward(self, x: Tensor) -> Tensor:
        """Convolve ``(N, C, H, W)``."""
        weight = self.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            x, weight = x.to(dtype), weight.to(dtype)
        return cast("Tensor", _Convolve.apply(x, weight, self._stride, self._padding))  # type: ignore[no-untyped-call]


def quicken(module: nn.Module) -> None:
    """Give every depthwise convolution within ``module`` quick gradients; names and values of the state stay."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and child.groups == child.in_channels == child.out_channels > 1:
                setattr(parent, name, QuickDepthwise(child))
