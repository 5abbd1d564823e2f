"""The embedded network: an EfficientNet-Lite0 encoder, a convolutional prompt decoder and a space-time memory.

Sources of the parts:

* encoder: EfficientNet-Lite0 (Tan & Le, "EfficientNet", ICML 2019; the Lite variant drops squeeze-and-excitation and
  uses ReLU6), started from Google's ImageNet weights;
* prompts as planes that are added to the features at strides 4, 8 and 16, after the click maps of interactive
  segmentation (e.g. Sofiiuk et al., "Reviving Iterative Training with Mask Guidance", 2021);
* memory: keys from the image, values from image and mask, read by softmax affinity over all positions of all memories
  (Oh et al., "Space-Time Memory Networks", ICCV 2019; Cheng & Schwing, "XMem", ECCV 2022), with a learned penalty on
  the distance between positions for ordered stacks;
* predicted IoU and object score beside the mask: SAM (Kirillov et al. 2023) and SAM 2 (Ravi et al. 2024).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CONTEXT", "PLANES", "WIDTH", "CompactNetwork", "Features", "Prediction"]

PLANES = 7
"""Prompt planes: positive and negative clicks (narrow), the same (wide), box, previous mask, neighbour's mask."""

_STRIDE16 = 112
WIDTH = 128
"""Channels at stride 16."""
_KEY = 64
_VALUE = 96
CONTEXT = 5
"""What the judge is told beside features and mask: how the mask agrees with its neighbour's and with the memories."""

# kernel, stride, expansion, output channels, repeats: Tan & Le 2019, table 1 (the B0 column, Lite keeps it).
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


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


def _same_pad(x: Tensor, kernel: int) -> Tensor:
    """Pad as TensorFlow's SAME does for stride 2 and even sides, which the ImageNet weights were trained with."""
    before = (kernel - 2) // 2
    after = kernel - 2 - before
    return F.pad(x, (before, after, before, after))


class _FrozenNorm(nn.BatchNorm2d):
    """Batch normalisation with the ImageNet statistics kept: our batches are small and of many kinds."""

    def train(self, mode: bool = True) -> _FrozenNorm:
        super().train(False)
        return self


def _norm(channels: int) -> nn.BatchNorm2d:
    return _FrozenNorm(channels, eps=1e-3)


class _InvertedResidual(nn.Module):
    """Expand, depthwise convolution, project; a skip where the shape stays."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand: nn.Module | None = None
        if expansion != 1:
            self.expand = nn.Sequential(nn.Conv2d(inputs, hidden, 1, bias=False), _norm(hidden), nn.ReLU6())
        self.depthwise = nn.Conv2d(
            hidden, hidden, kernel, stride, 0 if stride == 2 else kernel // 2, groups=hidden, bias=False
        )
        self.norm = _norm(hidden)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.project_norm = _norm(outputs)
        self.stride, self.kernel = stride, kernel
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        if self.stride == 2:
            y = _same_pad(y, self.kernel)
        y = F.relu6(self.norm(self.depthwise(y)))
        y = self.project_norm(self.project(y))
        return x + y if self.skip else torch.as_tensor(y)


class _Encoder(nn.Module):
    """EfficientNet-Lite0 without its classifier; returns the maps at strides 2, 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, 2, 0, bias=False)
        self.stem_norm = _norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for kernel, stride, expansion, outputs, repeats in _STAGES:
            for i in range(repeats):
                blocks.append(_InvertedResidual(channels, outputs, kernel, stride if i == 0 else 1, expansion))
                channels = outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        # The ImageNet weights expect values in [-1, 1].
        x = _same_pad(x * 2 - 1, 3)
        x = F.relu6(self.stem_norm(self.stem(x)))
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (0, 2, 4, 10, 15):
                maps.append(x)
        return maps


class _Residual(nn.Module):
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
        return F.relu(x + self.second_norm(self.second(y)))


class _SelfAttention(nn.Module):
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


def _up(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class CompactNetwork(nn.Module):
    """Encoder, memory and decoder of the embedded model.

    Every method takes and returns batched tensors; nothing is kept between calls. Any side S that is a multiple of
    32 works; training and use are at 192 to 256.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = _Encoder()
        self.lateral16 = nn.Conv2d(_STRIDE16, WIDTH, 1)
        self.lateral32 = nn.Conv2d(320, WIDTH, 1)
        self.key = nn.Conv2d(WIDTH, _KEY, 1)

        # Memory: value from the image features and the mask, read out by affinity.
        self.mask_embed = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 64, 3, 2, 1), nn.ReLU())
        self.value = nn.Sequential(nn.Conv2d(WIDTH + 64, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, _VALUE, 1))
        self.sharpness = nn.Parameter(torch.tensor(math.log(12.0)))
        self.locality = nn.Parameter(torch.tensor(math.log(8.0)))
        self.readout = nn.Conv2d(_VALUE + 1, WIDTH, 1)
        self.no_memory = nn.Parameter(torch.zeros(WIDTH))

        # Prompts: planes at stride 4, brought to strides 8 and 16.
        self.prompt4 = nn.Sequential(nn.Conv2d(PLANES, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 48, 3, padding=1))
        self.prompt8 = nn.Sequential(nn.ReLU(), nn.Conv2d(48, 80, 3, 2, 1))
        self.prompt16 = nn.Sequential(nn.ReLU(), nn.Conv2d(80, WIDTH, 3, 2, 1))

        self.mix16a = _Residual(WIDTH)
        self.attention = _SelfAttention(WIDTH)
        self.mix16b = _Residual(WIDTH)
        self.down8 = nn.Conv2d(WIDTH, 80, 1)
        self.skip8 = nn.Conv2d(40, 80, 1)
        self.mix8 = _Residual(80)
        self.down4 = nn.Conv2d(80, 48, 1)
        self.skip4 = nn.Conv2d(24, 48, 1)
        self.mix4 = _Residual(48)
        self.down2 = nn.Conv2d(48, 24, 1)
        self.skip2 = nn.Conv2d(16, 24, 1)
        self.mix2 = _Residual(24, normalise=False)
        self.mask = nn.Conv2d(24, 1, 3, padding=1)
        self.judge = nn.Sequential(nn.Linear(2 * WIDTH + 3 + CONTEXT, 96), nn.ReLU(), nn.Linear(96, 2))

    def encode(self, image: Tensor) -> Features:
        """Encode views.

        Parameters
        ----------
        image : Tensor
            ``(B, 3, S, S)``, float, intensities in [0, 1].
        """
        s2, s4, s8, s16, s32 = self.encoder(image)
        mixed = self.lateral16(s16) + _up(self.lateral32(s32))
        return Features(s2, s4, s8, mixed, F.normalize(self.key(mixed), dim=1))

    def remember(self, features: Features, mask: Tensor) -> Tensor:
        """Encode memories.

        Parameters
        ----------
        features : Features
            Of the B views, one entry an object.
        mask : Tensor
            ``(B, 1, S/4, S/4)``, probability of the object.

        Returns
        -------
        Tensor
            ``(B, 97, S/16, S/16)``: 96 learned value channels and the mask's mean over each cell.
        """
        embedded = self.mask_embed(mask * 2 - 1)
        value = self.value(torch.cat([features.s16, embedded], 1))
        return torch.cat([value, F.avg_pool2d(mask, 4)], 1)

    def read(self, query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None = None) -> Tensor:
        """Read memories by softmax affinity over every position of every memory.

        Parameters
        ----------
        query : Tensor
            ``(B, 64, h, w)``, the views' keys.
        keys, values : Tensor
            ``(B, 64, M)`` and ``(B, 97, M)``: M memory positions of each object's bank.
        bias : Tensor, optional
            ``(B, h·w, M)`` or broadcastable, added to the affinity: log weights of memories, minus infinity where a
            memory is padding, and the distance penalty of `position_bias`.

        Returns
        -------
        Tensor
            ``(B, 97, h, w)``.
        """
        b, _, h, w = query.shape
        affinity = torch.einsum("bcq,bcm->bqm", query.flatten(2), keys) * self.sharpness.exp()
        if bias is not None:
            affinity = affinity + bias
        weights = affinity.softmax(2)
        return torch.einsum("bqm,bvm->bvq", weights, values).view(b, -1, h, w)

    def position_bias(self, query_positions: Tensor, memory_positions: Tensor) -> Tensor:
        """Penalty on the squared distance between positions, for ordered stacks.

        Parameters
        ----------
        query_positions, memory_positions : Tensor
            ``(..., Q, 2)`` and ``(..., M, 2)`` in units of the current view's side.

        Returns
        -------
        Tensor
            ``(..., Q, M)``, not positive.
        """
        difference = query_positions.unsqueeze(-2) - memory_positions.unsqueeze(-3)
        return -self.locality.exp() * difference.square().sum(-1)

    def decode(self, features: Features, planes: Tensor, readout: Tensor | None, has_memory: Tensor) -> Prediction:
        """Predict masks.

        Parameters
        ----------
        features : Features
            Of the views, one entry an object.
        planes : Tensor
            ``(B, 7, S/4, S/4)``, see `PLANES`.
        readout : Tensor or None
            ``(B, 97, S/16, S/16)`` from `read`; None where no object has a memory.
        has_memory : Tensor
            ``(B,)`` bool.
        """
        p4 = self.prompt4(planes)
        p8 = self.prompt8(p4)
        p16 = self.prompt16(p8)
        memory = self.no_memory.view(1, -1, 1, 1).expand(len(planes), -1, 1, 1)
        if readout is not None:
            memory = torch.where(has_memory.view(-1, 1, 1, 1), self.readout(readout), memory)
        x = self.mix16a(features.s16 + p16 + memory)
        x16 = self.mix16b(self.attention(x))
        x = self.mix8(_up(self.down8(x16)) + self.skip8(features.s8) + p8)
        x = self.mix4(_up(self.down4(x)) + self.skip4(features.s4) + p4)
        x = self.mix2(_up(self.down2(x)) + self.skip2(features.s2))
        logits = self.mask(x)
        return Prediction(logits, *self._judge(x16, logits.detach(), planes[:, 6:7], readout, has_memory))

    def _judge(
        self, x16: Tensor, logits: Tensor, carried: Tensor, readout: Tensor | None, has_memory: Tensor
    ) -> tuple[Tensor, Tensor]:
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
