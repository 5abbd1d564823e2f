"""RepViT, EdgeTAM's image encoder, for inference: batch norms and parallel branches are folded into its convolutions.

Wang et al., "RepViT: Revisiting Mobile CNN From ViT Perspective", arXiv 2307.09283. In training, a block's depthwise
convolution is the sum of a 3 × 3 one, a 1 × 1 one and the identity, each of the first two with a batch norm; these are
one convolution once trained.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RepVit", "fold"]

_EPSILON = 1e-5


class _Features(NamedTuple):
    """What transformers' vision encoder expects of its backbone: maps ``(B, h, w, C)`` at strides 4, 8, 16 and 32."""

    last_hidden_state: Tensor
    intermediate_hidden_states: tuple[Tensor, ...]
    hidden_states: None = None
    attentions: None = None


class _Mlp(nn.Module):
    """Two pointwise convolutions, added to their input."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.down(F.gelu(self.up(x)))
        return out


class _Squeeze(nn.Module):
    """Channels weighted by what the whole map shows."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.reduce, self.expand = nn.Conv2d(width, hidden, 1), nn.Conv2d(hidden, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        return x * torch.sigmoid(self.expand(F.relu(self.reduce(mean))))


class _Block(nn.Module):
    """A depthwise convolution, the squeeze where there is one, and the pointwise convolutions."""

    def __init__(self, width: int, hidden: int, squeezed: int | None) -> None:
        super().__init__()
        self.mixer = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.squeeze = nn.Identity() if squeezed is None else _Squeeze(width, squeezed)
        self.mlp = _Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(self.squeeze(self.mixer(x)))
        return out


class _Downsample(nn.Module):
    """Half the size, and more channels."""

    def __init__(self, width: int, wider: int, before: int, after: int) -> None:
        super().__init__()
        self.block = _Block(width, before, None)
        self.shrink = nn.Conv2d(width, width, 3, stride=2, padding=1, groups=width)
        self.widen = nn.Conv2d(width, wider, 1)
        self.mlp = _Mlp(wider, after)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(self.widen(self.shrink(self.block(x))))
        return out


class RepVit(nn.Module):
    """The encoder, with the sizes that its folded tensors have.

    Parameters
    ----------
    state : mapping of str to Tensor
        What `fold` returned; only shapes and names are looked at.

    Raises
    ------
    InputError
        If tensors are missing that tell the sizes.
    """

    def __init__(self, state: Mapping[str, Tensor]) -> None:
        super().__init__()

        def width(name: str) -> int:
            if name not in state:
                raise InputError(f"the image encoder's {name!r} is missing; get the file again")
            return state[name].shape[0]

        first, second = width("stem1.weight"), width("stem2.weight")
        self.stem1 = nn.Conv2d(3, first, 3, stride=2, padding=1)
        self.stem2 = nn.Conv2d(first, second, 3, stride=2, padding=1)
        stages, self.widths = [], [second]
        for stage in range(4):
            parts: OrderedDict[str, nn.Module] = OrderedDict()
            head = f"stages.{stage}."
            if stage:
                down = head + "downsample."
                wider = width(down + "widen.weight")
                before, after = width(down + "block.mlp.up.weight"), width(down + "mlp.up.weight")
                parts["downsample"] = _Downsample(self.widths[-1], wider, before, after)
                self.widths.append(wider)
            blocks: list[nn.Module] = []
            while f"{head}blocks.{len(blocks)}.mixer.weight" in state:
                block = f"{head}blocks.{len(blocks)}."
                squeezed = width(block + "squeeze.reduce.weight") if block + "squeeze.reduce.weight" in state else None
                blocks.append(_Block(self.widths[-1], width(block + "mlp.up.weight"), squeezed))
            parts["blocks"] = nn.Sequential(*blocks)
            stages.append(nn.Sequential(parts))
        self.stages = nn.ModuleList(stages)

    def forward(self, pixels: Tensor) -> _Features:
        """Encode ``(B, 3, S, S)``."""
        x = self.stem2(F.gelu(self.stem1(pixels)))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x.permute(0, 2, 3, 1))
        return _Features(maps[-1], tuple(maps))


def fold(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], set[str]]:
    """Fold the published encoder's batch norms and branches.

    Parameters
    ----------
    state : mapping of str to Tensor
        In timm's names, without ``image_encoder.trunk.body.``; float32.

    Returns
    -------
    tuple
        The tensors of `RepVit`, and which of the given ones were used.

    Raises
    ------
    InputError
        If a part of a folded convolution is missing or does not fit.
    """
    used: set[str] = set()

    def take(name: str) -> Tensor:
        if name not in state:
            raise InputError(f"the image encoder's {name!r} is missing; get the file again")
        used.add(name)
        return state[name]

    def normed(prefix: str) -> tuple[Tensor, Tensor]:
        """A convolution without bias, and its batch norm."""
        weight = take(f"{prefix}.c.weight")
        scale = take(f"{prefix}.bn.weight") / (take(f"{prefix}.bn.running_var") + _EPSILON).sqrt()
        bias = take(f"{prefix}.bn.bias") - take(f"{prefix}.bn.running_mean") * scale
        counted = f"{prefix}.bn.num_batches_tracked"
        if counted in state:
            used.add(counted)
        return weight * scale.view(-1, 1, 1, 1), bias

    out: dict[str, Tensor] = {}

    def put(name: str, prefix: str) -> None:
        out[f"{name}.weight"], out[f"{name}.bias"] = normed(prefix)

    def block(name: str, prefix: str) -> None:
        wide, bias = normed(f"{prefix}.token_mixer.conv")
        narrow, more = normed(f"{prefix}.token_mixer.conv1")
        # The identity is a depthwise convolution whose middle is 1.
        out[f"{name}.mixer.weight"] = wide + F.pad(narrow + 1, (1, 1, 1, 1))
        out[f"{name}.mixer.bias"] = bias + more
        if f"{prefix}.se.fc1.weight" in state:
            for own, theirs in (("reduce", "fc1"), ("expand", "fc2")):
                for kind in ("weight", "bias"):
                    out[f"{name}.squeeze.{own}.{kind}"] = take(f"{prefix}.se.{theirs}.{kind}")
        put(f"{name}.mlp.up", f"{prefix}.channel_mixer.conv1")
        put(f"{name}.mlp.down", f"{prefix}.channel_mixer.conv2")

    try:
        put("stem1", "stem.conv1")
        put("stem2", "stem.conv2")
        for stage in range(4):
            own, theirs = f"stages.{stage}", f"stages_{stage}"
            if stage:
                block(f"{own}.downsample.block", f"{theirs}.downsample.pre_block")
                put(f"{own}.downsample.shrink", f"{theirs}.downsample.spatial_downsample")
                put(f"{own}.downsample.widen", f"{theirs}.downsample.channel_downsample")
                put(f"{own}.downsample.mlp.up", f"{theirs}.downsample.ffn.conv1")
                put(f"{own}.downsample.mlp.down", f"{theirs}.downsample.ffn.conv2")
            numbers = {int(m[1]) for name in state if (m := re.match(rf"{theirs}\.blocks\.(\d+)\.", name))}
            for number in range(len(numbers)):
                block(f"{own}.blocks.{number}", f"{theirs}.blocks.{number}")
    except RuntimeError as error:
        raise InputError(f"the image encoder's tensors do not fit each other ({error}); get the file again") from error
    return out, used
