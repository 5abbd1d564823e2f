"""The embedded network's encoder as it is used: batch norms folded into its convolutions, and nothing padded by hand.

Both change no value beyond rounding. On a CPU they halve the time of a batch of views: what is left out are passes over
maps that no longer fit into a cache (`benchmarks.folding`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

if TYPE_CHECKING:
    from napari_medsam2.backend._compact_network import Encoder, InvertedResidual

__all__ = ["FoldedEncoder"]


class FoldedEncoder(nn.Module):
    """The encoder with weights that no longer change.

    Parameters
    ----------
    encoder : Encoder
        In evaluation, where it is to compute; it stays as it is.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.stem = _padding(fuse_conv_bn_eval(encoder.stem, encoder.stem_norm))
        self.blocks = nn.ModuleList(_Block(cast("InvertedResidual", block)) for block in encoder.blocks)
        self.kept = encoder.kept
        self.requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Compute the same maps as `Encoder`, of ``(B, 3, S, S)`` in [0, 1]."""
        x = F.relu6(self.stem(x * 2 - 1), inplace=True)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.kept:
                maps.append(x)
        return maps


class _Block(nn.Module):
    def __init__(self, block: InvertedResidual) -> None:
        super().__init__()
        self.expand: nn.Conv2d | None = None
        if block.expand is not None:
            convolution, norm, _ = block.expand
            self.expand = fuse_conv_bn_eval(cast("nn.Conv2d", convolution), cast("nn.BatchNorm2d", norm))
        depthwise = fuse_conv_bn_eval(block.depthwise, block.norm)
        self.depthwise = _padding(depthwise) if block.stride == 2 else depthwise
        self.project = fuse_conv_bn_eval(block.project, block.project_norm)
        self.skip = block.skip

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        out: Tensor = self.project(F.relu6(self.depthwise(y), inplace=True))
        # Not into x: that may be a map that is kept.
        return out.add_(x) if self.skip else out


def _padding(convolution: nn.Conv2d) -> nn.Conv2d:
    """Let a convolution of stride 2, whose input was padded by k/2 - 1 before and k/2 after, pad by itself.

    A row and a column of zeros before a kernel of k make one of k + 1, for which k/2 is right on either side.
    """
    size = convolution.kernel_size[0]
    padding = (size - 1) // 2
    wide = nn.Conv2d(
        convolution.in_channels, convolution.out_channels, size + 1, 2, padding, groups=convolution.groups
    )  # fmt: skip
    with torch.no_grad():
        wide.weight = nn.Parameter(F.pad(convolution.weight, (1, 0, 1, 0)))
    wide.bias = convolution.bias
    return wide
