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

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_medsam2.backend._compact_decoder import (
    CONTEXT,
    KEY,
    VALUE,
    WIDTH,
    CollectionDecoder,
    Decoder,
    Features,
    Prediction,
    Residual,
    SelfAttention,
    up,
)

__all__ = ["CONTEXT", "PLANES", "WIDTH", "CompactNetwork", "Encoder", "Features", "Prediction", "SamePad"]

PLANES = 7
"""Prompt planes: positive and negative clicks (narrow), the same (wide), box, previous mask, neighbour's mask."""

_STRIDE16 = 112
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


class SamePad(nn.Module):
    """Pads as TensorFlow's SAME does for stride 2 and even sides, which the ImageNet weights were trained with."""

    def __init__(self, kernel: int) -> None:
        super().__init__()
        self.before = (kernel - 2) // 2
        self.after = kernel - 2 - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.before, self.after, self.before, self.after))


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
        self.expand: nn.Sequential | None = None
        if expansion != 1:
            self.expand = nn.Sequential(nn.Conv2d(inputs, hidden, 1, bias=False), _norm(hidden), nn.ReLU6(inplace=True))
        self.pad = SamePad(kernel) if stride == 2 else nn.Identity()
        self.depthwise = nn.Conv2d(
            hidden, hidden, kernel, stride, 0 if stride == 2 else kernel // 2, groups=hidden, bias=False
        )
        self.norm: nn.Module = _norm(hidden)
        self.project = nn.Conv2d(hidden, outputs, 1, bias=False)
        self.project_norm: nn.Module = _norm(outputs)
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else self.expand(x)
        y = F.relu6(self.norm(self.depthwise(self.pad(y))), inplace=True)
        y = self.project_norm(self.project(y))
        return x + y if self.skip else torch.as_tensor(y)


class Encoder(nn.Module):
    """EfficientNet-Lite0 without its classifier; returns the maps at strides 2, 4, 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem_pad: nn.Module = SamePad(3)
        self.stem = nn.Conv2d(3, 32, 3, 2, 0, bias=False)
        self.stem_norm: nn.Module = _norm(32)
        blocks: list[nn.Module] = []
        channels = 32
        for kernel, stride, expansion, outputs, repeats in _STAGES:
            for i in range(repeats):
                blocks.append(_InvertedResidual(channels, outputs, kernel, stride if i == 0 else 1, expansion))
                channels = outputs
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        # The ImageNet weights expect values in [-1, 1].
        x = F.relu6(self.stem_norm(self.stem(self.stem_pad(x * 2 - 1))), inplace=True)
        maps = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (0, 2, 4, 10, 15):
                maps.append(x)
        return maps


class CompactNetwork(Decoder):
    """Encoder, memory and decoder of the embedded model.

    Every method takes and returns batched tensors; nothing is kept between calls. Any side S that is a multiple of
    32 works; training and use are at 192 to 256.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.lateral16 = nn.Conv2d(_STRIDE16, WIDTH, 1)
        self.lateral32 = nn.Conv2d(320, WIDTH, 1)
        self.key = nn.Conv2d(WIDTH, KEY, 1)

        # Memory: value from the image features and the mask, read out by affinity.
        self.mask_embed = nn.Sequential(nn.Conv2d(1, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 64, 3, 2, 1), nn.ReLU())
        self.value = nn.Sequential(nn.Conv2d(WIDTH + 64, WIDTH, 3, padding=1), nn.ReLU(), nn.Conv2d(WIDTH, VALUE, 1))
        self.sharpness = nn.Parameter(torch.tensor(math.log(12.0)))
        self.locality = nn.Parameter(torch.tensor(math.log(8.0)))
        self.readout = nn.Conv2d(VALUE + 1, WIDTH, 1)
        self.no_memory = nn.Parameter(torch.zeros(WIDTH))

        # Prompts: planes at stride 4, brought to strides 8 and 16.
        self.prompt4 = nn.Sequential(nn.Conv2d(PLANES, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 48, 3, padding=1))
        self.prompt8 = nn.Sequential(nn.ReLU(), nn.Conv2d(48, 80, 3, 2, 1))
        self.prompt16 = nn.Sequential(nn.ReLU(), nn.Conv2d(80, WIDTH, 3, 2, 1))

        self.mix16a = Residual(WIDTH)
        self.attention = SelfAttention(WIDTH)
        self.mix16b = Residual(WIDTH)
        self.down8 = nn.Conv2d(WIDTH, 80, 1)
        self.skip8 = nn.Conv2d(40, 80, 1)
        self.mix8 = Residual(80)
        self.down4 = nn.Conv2d(80, 48, 1)
        self.skip4 = nn.Conv2d(24, 48, 1)
        self.mix4 = Residual(48)
        self.down2 = nn.Conv2d(48, 24, 1)
        self.skip2 = nn.Conv2d(16, 24, 1)
        self.mix2 = Residual(24, normalise=False)
        self.mask = nn.Conv2d(24, 1, 3, padding=1)
        self.judge = nn.Sequential(nn.Linear(2 * WIDTH + 3 + CONTEXT, 96), nn.ReLU(), nn.Linear(96, 2))
        self.collection: CollectionDecoder | None = None

    def specialise(self) -> CollectionDecoder:
        """Give the network a decoder for collections, unless it has one: a copy of its own, to be trained further."""
        if self.collection is None:
            self.collection = CollectionDecoder(self)
        return self.collection

    def encode(self, image: Tensor) -> Features:
        """Encode views.

        Parameters
        ----------
        image : Tensor
            ``(B, 3, S, S)``, float, intensities in [0, 1].
        """
        s2, s4, s8, s16, s32 = self.encoder(image)
        mixed = self.lateral16(s16) + up(self.lateral32(s32))
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

    def decode(
        self,
        features: Features,
        planes: Tensor,
        readout: Tensor | None,
        has_memory: Tensor,
        collection: bool = False,
    ) -> Prediction:
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
        collection : bool
            Whether the memories are of other images of the kind, and not of neighbouring slices; all have some.
        """
        p4 = self.prompt4(planes)
        p8 = self.prompt8(p4)
        p16 = self.prompt16(p8)
        drawing: Decoder = self
        if collection and readout is not None and self.collection is not None:
            drawing, memory = self.collection, self.collection.recall(readout)
        else:
            memory = self.no_memory.view(1, -1, 1, 1).expand(len(planes), -1, 1, 1)
            if readout is not None:
                memory = torch.where(has_memory.view(-1, 1, 1, 1), self.readout(readout), memory)
        x16, logits = drawing.draw(features, (p4, p8, p16), memory)
        return Prediction(logits, *drawing.judged(x16, logits.detach(), planes[:, 6:7], readout, has_memory))
