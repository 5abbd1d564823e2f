"""The embedded network's decoder: from features, prompts and memories to a mask and what is thought of it."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "CONTEXT",
    "KEY",
    "VALUE",
    "WIDTH",
    "CollectionDecoder",
    "Decoder",
    "Features",
    "Prediction",
    "Residual",
    "SelfAttention",
    "up",
]

WIDTH = 128
"""Channels at stride 16."""
KEY = 64
"""Channels of what memories are looked up by."""
VALUE = 96
"""Channels of what they hold, beside the mask's share of a cell."""
CONTEXT = 5
"""What the judge is told beside features and mask: how the mask agrees with its neighbour's and with the memories."""
_FAINTEST = 1e-4
"""The least share of a memory's mask that is told from none."""
_TOLD = 3
"""What a collection's decoder is told beside what was read: see `CollectionDecoder.recall`."""


class Features(NamedTuple):
    """What the encoder makes of a batch of views of side S.

    Parameters
    ----------
    s2, s4, s8, s16 : Tensor
        Feature maps of 16, 24, 40 and 128 channels at strides 2, 4, 8 and 16.
    key : Tensor
        ``(B, 64, S/16, S/16)``, unit length along the channels: the appearance that memories are looked up by.
    """

    s2: Tensor
    s4: Tensor
    s8: Tensor
    s16: Tensor
    key: Tensor

    def take(self, index: Tensor) -> Features:
        """Select (and repeat) entries along the batch axis."""
        return Features(*(t[index] for t in self))


class Prediction(NamedTuple):
    """What the decoder says of a batch of objects.

    Parameters
    ----------
    logits : Tensor
        ``(B, 1, S/2, S/2)`` mask logits at stride 2.
    iou : Tensor
        ``(B,)`` logit of the predicted IoU.
    score : Tensor
        ``(B,)`` object score logit: positive where the object is in the view.
    """

    logits: Tensor
    iou: Tensor
    score: Tensor


class Residual(nn.Module):
    """Two 3×3 convolutions and a skip, with group normalisation where the map is small enough for it to be cheap."""

    def __init__(self, channels: int, normalise: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=not normalise)
        self.first_norm: nn.Module = nn.GroupNorm(8, channels) if normalise else nn.Identity()
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=not normalise)
        self.second_norm: nn.Module = nn.GroupNorm(8, channels) if normalise else nn.Identity()
        # The branch begins as nothing, so that the path beside it learns first.
        nn.init.zeros_(self.second_norm.weight if normalise else self.second.weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first_norm(self.first(x)), inplace=True)
        return F.relu(x + self.second_norm(self.second(y)), inplace=True)


class SelfAttention(nn.Module):
    """One pre-norm self-attention layer over the positions of a map."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).view(b, h * w, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        attended: Tensor = self.out(y).transpose(1, 2).view(b, c, h, w)
        return x + attended


def up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Decoder(nn.Module):
    """What decodes; whose layers they are is said by the subclasses."""

    readout: nn.Conv2d
    mix16a: Residual
    attention: SelfAttention
    mix16b: Residual
    down8: nn.Conv2d
    skip8: nn.Conv2d
    mix8: Residual
    down4: nn.Conv2d
    skip4: nn.Conv2d
    mix4: Residual
    down2: nn.Conv2d
    skip2: nn.Conv2d
    mix2: Residual
    mask: nn.Conv2d
    judge: nn.Sequential

    def draw(self, features: Features, prompts: tuple[Tensor, Tensor, Tensor], memory: Tensor) -> tuple[Tensor, Tensor]:
        """Decode.

        Parameters
        ----------
        features : Features
            Of the views, one entry an object.
        prompts : tuple of Tensor
            The prompts' features at strides 4, 8 and 16.
        memory : Tensor
            ``(B, 128, S/16, S/16)``, what was read, made a feature map.

        Returns
        -------
        tuple of Tensor
            The map at stride 16 that the mask is drawn from, for the judge, and the logits ``(B, 1, S/2, S/2)``.
        """
        p4, p8, p16 = prompts
        x = self.mix16a(features.s16 + p16 + memory)
        x16 = self.mix16b(self.attention(x))
        x = self.mix8(up(self.down8(x16)) + self.skip8(features.s8) + p8)
        x = self.mix4(up(self.down4(x)) + self.skip4(features.s4) + p4)
        x = self.mix2(up(self.down2(x)) + self.skip2(features.s2))
        return x16, self.mask(x)

    def judged(
        self, x16: Tensor, logits: Tensor, carried: Tensor, readout: Tensor | None, has_memory: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Judge a mask: logits of the predicted IoU and of the object's being there, ``(B,)`` each."""
        probability = logits.sigmoid()
        cells = F.adaptive_avg_pool2d(probability, (x16.shape[2], x16.shape[3]))
        inside = (x16 * cells).sum((2, 3)) / (cells.sum((2, 3)) + 1e-3)
        area = probability.mean((2, 3))
        certain = ((probability - 0.5).abs() * 2).mean((2, 3))
        core = (probability * probability).sum((2, 3)) / (probability.sum((2, 3)) + 1e-3)
        context = self._context(probability, cells, carried, readout, has_memory)
        out = self.judge(torch.cat([x16.mean((2, 3)), inside, area, certain, core, *context], 1))
        return out[:, 0], out[:, 1]

    @staticmethod
    def _context(
        probability: Tensor, cells: Tensor, carried: Tensor, readout: Tensor | None, has_memory: Tensor
    ) -> list[Tensor]:
        """Agreement of the mask ``(B, 1)`` each: with the neighbour's, in place and in size, and with the memories."""
        given = (carried.flatten(1) != 0).any(1, keepdim=True).to(probability.dtype)
        before, now = (carried + 1) / 2, F.avg_pool2d(probability, 2)
        both, either = torch.minimum(before, now).sum((2, 3)), torch.maximum(before, now).sum((2, 3))
        sizes = (before.sum((2, 3)) + 1).log() - (now.sum((2, 3)) + 1).log()
        known = has_memory.view(-1, 1).to(probability.dtype)
        if readout is None:
            support = spread = torch.zeros_like(known)
        else:
            # The last value channel is the memories' masks, as the affinity finds them again here.
            found = readout[:, -1:]
            support = (found * cells).sum((2, 3)) / (cells.sum((2, 3)) + 1e-3)
            spread = torch.minimum(found, cells).sum((2, 3)) / (torch.maximum(found, cells).sum((2, 3)) + 1e-3)
        return [given * both / (either + 1), given * sizes.clamp(-3, 3), given, known * support, known * spread]


class CollectionDecoder(Decoder):
    """A decoder for collections, whose memories may show some of the objects of a kind only.

    It has layers of its own, which begin as copies of the network's, and is told more of what was read. Of a memory in
    which one nucleus of thirty is painted, any nucleus finds the mask again by a thirtieth, and the background by
    nothing at all: little, but more than the rest of the image. So the share that was found goes in as its logarithm
    too, and relative to the most that was found anywhere in the image, as few-shot segmentation does with similarities
    (e.g. the prior of PFENet, Tian et al. 2020, arXiv 2008.01449).

    Parameters
    ----------
    other : Decoder
        Whose layers it begins with.
    """

    def __init__(self, other: Decoder) -> None:
        super().__init__()
        for name in Decoder.__annotations__:
            self.add_module(name, copy.deepcopy(getattr(other, name)))
        # What it is told beside counts for nothing until it is learned.
        plain = self.readout
        self.readout = nn.Conv2d(plain.in_channels + _TOLD, plain.out_channels, 1, bias=True)
        with torch.no_grad():
            self.readout.weight.zero_()
            self.readout.weight[:, : plain.in_channels] = plain.weight
            if plain.bias is not None and self.readout.bias is not None:
                self.readout.bias.copy_(plain.bias)

    def recall(self, readout: Tensor) -> Tensor:
        """Make a feature map ``(B, 128, h, w)`` of what was read, ``(B, 97, h, w)``."""
        found = readout[:, -1:].clamp(min=0)
        most = found.amax((2, 3), keepdim=True)
        # 1 where all is found again, 0 where next to nothing is.
        shown = 1 + (found + _FAINTEST).log() / -math.log(_FAINTEST)
        best = 1 + (most + _FAINTEST).log() / -math.log(_FAINTEST)
        told: Tensor = self.readout(torch.cat([readout, shown, shown - best, found / (most + _FAINTEST)], 1))
        return told
