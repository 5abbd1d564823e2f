"""The embedded network's encoder as it is used: batch norms folded into its convolutions, and nothing padded by hand.

Both change no value beyond rounding. On a CPU they halve the time of a batch of views: what is left out are passes over
maps that no longer fit into a cache (`benchmarks.folding`).
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_medsam2.backend._compact_network import Encoder, SamePad

__all__ = ["folded"]


def folded(encoder: Encoder) -> Encoder:
    """Return an encoder of the same values, whose weights no longer change.

    Parameters
    ----------
    encoder : Encoder
        In evaluation, where it is to compute; it stays as it is.
    """
    own: Any = copy.deepcopy(encoder)
    own.stem = _padding(fuse_conv_bn_eval(own.stem, own.stem_norm))
    own.stem_pad = own.stem_norm = nn.Identity()
    for block in own.blocks:
        if block.expand is not None:
            convolution, norm, activation = block.expand
            block.expand = nn.Sequential(fuse_conv_bn_eval(convolution, norm), activation)
        block.depthwise = fuse_conv_bn_eval(block.depthwise, block.norm)
        if isinstance(block.pad, SamePad):
            block.depthwise = _padding(block.depthwise)
        block.project = fuse_conv_bn_eval(block.project, block.project_norm)
        block.pad = block.norm = block.project_norm = nn.Identity()
    return cast("Encoder", own.requires_grad_(False).to(memory_format=torch.channels_last))


def _padding(convolution: nn.Conv2d) -> nn.Conv2d:
    """Let a convolution of stride 2, whose input was padded as `SamePad` does, pad by itself.

    A row and a column of zeros before a kernel of k make one of k + 1, for which the same padding is right on either
    side.
    """
    size = convolution.kernel_size[0]
    wide = nn.Conv2d(
        convolution.in_channels, convolution.out_channels, size + 1, 2, (size - 1) // 2, groups=convolution.groups
    )  # fmt: skip
    wide.weight = nn.Parameter(F.pad(convolution.weight.detach(), (1, 0, 1, 0)))
    wide.bias = convolution.bias
    return wide
