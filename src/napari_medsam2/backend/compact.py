"""The embedded model behind the backend protocol."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from napari_medsam2.backend._compact_folding import folded
from napari_medsam2.backend._compact_network import CompactNetwork, Features
from napari_medsam2.backend._compact_weights import load_state
from napari_medsam2.backend._computing import inferring
from napari_medsam2.backend._planes import draw_planes
from napari_medsam2.backend._settling import settled
from napari_medsam2.backend.protocol import Attended, Decoded, Memory, ViewPrompt
from napari_medsam2.errors import InputError
from napari_medsam2.geometry import View, ViewSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_medsam2.backend.protocol import Embedding

__all__ = ["CompactBackend", "CompactEmbedding"]

_WEIGHTS = Path(__file__).parent / "weights" / "compact.safetensors"
_SUMS = Path(__file__).parent / "weights" / "SHA256SUMS"
_FORMAT = "napari-medsam2-compact"
_ADOPTED = 10.0
"""The logit of a mask that is taken as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class CompactEmbedding:
    """Feature maps of a batch of views at strides 2 to 16, and the keys that memories are looked up by."""

    features: Features

    def __len__(self) -> int:
        return len(self.features.key)

    @property
    def nbytes(self) -> int:
        """Bytes that the features take."""
        return sum(t.numel() * t.element_size() for t in self.features)

    @property
    def descriptor(self) -> Tensor:
        """``(B, D)`` float32, unit length: the keys, flattened."""
        return F.normalize(self.features.key.flatten(1).float(), dim=1)

    def take(self, indices: Sequence[int]) -> CompactEmbedding:
        """Select (and repeat) entries along the batch axis."""
        return CompactEmbedding(self.features.take(torch.as_tensor(list(indices), device=self.features.key.device)))


class _Content(NamedTuple):
    """A memory's tensors: keys ``(64, M)`` and values ``(97, M)`` at its M positions."""

    keys: Tensor
    values: Tensor


class _Context(NamedTuple):
    readout: Tensor
    ordered: bool


class CompactBackend:
    """The embedded network.

    Parameters
    ----------
    network : CompactNetwork
        With its weights. It is the backend's from now on: it can encode quicker, and no longer be trained.
    device : torch.device
        Where to compute.
    side : int
        The views' side; a multiple of 32.
    """

    name = "compact"
    batch = 16
    weights = ""
    precision = torch.float32
    settable = False
    """Whether size and precision can be chosen."""

    def __init__(self, network: CompactNetwork, device: torch.device | str = "cpu", side: int = 256) -> None:
        self.device = torch.device(device)
        self.views = ViewSpec(side=side, tidy=True)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: CompactNetwork = settled(self, network)
        self._network.encoder = folded(self._network.encoder)

    @classmethod
    def load(cls, weights: str | Path | None = None, device: torch.device | str = "cpu") -> CompactBackend:
        """Load the embedded weights, whose checksum is pinned, or another file of this network.

        Raises
        ------
        InputError
            If the file is missing, damaged, changed or of another network.
        """
        path = _WEIGHTS if weights is None else Path(weights)
        state = _read(path, pinned_sha256() if weights is None else None)
        network = CompactNetwork()
        load_state(network, state, str(path))
        return cls(network, device)

    @inferring
    def encode(self, images: Tensor) -> CompactEmbedding:
        """Encode views ``(B, 3, S, S)`` float32 in [0, 1]."""
        images = images.to(self.device).contiguous(memory_format=torch.channels_last)
        return CompactEmbedding(self._network.encode(images))

    def join(self, embeddings: Sequence[Embedding]) -> CompactEmbedding:
        """Put embeddings together along the batch axis."""
        parts = [_own(e).features for e in embeddings]
        if len(parts) == 1:
            return CompactEmbedding(parts[0])
        if all(p is parts[0] for p in parts) and len(parts[0].key) == 1:
            return CompactEmbedding(Features(*(t.expand(len(parts), -1, -1, -1) for t in parts[0])))
        return CompactEmbedding(Features(*(torch.cat(maps) for maps in zip(*parts, strict=True))))

    @inferring
    def decode(self, embedding: Embedding, prompts: Sequence[ViewPrompt], context: Any = None) -> Decoded:
        """Predict masks ``(O, S/2, S/2)`` from prompts and, where given, from memory."""
        planes = draw_planes(prompts, self.views.side).to(self.device)
        known = torch.full((len(prompts),), context is not None, device=self.device)
        readout = None if context is None else context.readout
        unordered = context is not None and not context.ordered
        out = self._network.decode(_own(embedding).features, planes, readout, known, collection=unordered)
        return Decoded(out.logits[:, 0].float(), out.iou.float().sigmoid(), out.score.float())

    @inferring
    def adopt(self, embedding: Embedding, masks: Tensor) -> Decoded:
        """Take masks ``(O, S, S)`` in [0, 1] as they are."""
        shares = F.avg_pool2d(masks.to(self.device).float().unsqueeze(1), 2)[:, 0]
        sure = torch.ones(len(masks), device=self.device)
        there = torch.where(masks.flatten(1).any(1).to(self.device), _ADOPTED, -_ADOPTED)
        return Decoded((shares * 2 - 1) * _ADOPTED, sure, there)

    @inferring
    def remember(
        self, embedding: Embedding, decoded: Decoded, views: Sequence[View], indices: Sequence[int], prompted: bool
    ) -> list[Memory]:
        """Encode one memory an object."""
        own = _own(embedding)
        shares = F.avg_pool2d(decoded.logits.sigmoid().unsqueeze(1), 2)
        shares = shares * (decoded.score > 0).view(-1, 1, 1, 1)
        values = self._network.remember(own.features, shares).flatten(2)
        keys = own.features.key.flatten(2)
        features = F.normalize(values.flatten(1), dim=1)
        descriptors = own.descriptor
        out = []
        for i, (view, index) in enumerate(zip(views, indices, strict=True)):
            # Clones, so that one memory does not keep its whole batch alive.
            content = _Content(keys[i].clone(), values[i].clone())
            size = 4 * (2 * content.values.numel() + 2 * content.keys.numel())
            out.append(
                Memory(
                    index, view, content, features[i].clone(), descriptors[i].clone(),
                    float(decoded.iou[i]), "prompt" if prompted else "admitted", size,
                )
            )  # fmt: skip
        return out

    @inferring
    def attend(
        self,
        embedding: Embedding,
        banks: Sequence[Sequence[Attended]],
        views: Sequence[View],
        ordered: bool,
        index: int | None = None,
        run: range | None = None,
    ) -> _Context:
        """Read banks by softmax affinity over all positions of all members; weights enter as their logarithm."""
        query = _own(embedding).features.key
        longest = max(sum(a.memory.content.keys.shape[1] for a in bank) for bank in banks)
        cells = query.shape[-1]
        keys = query.new_zeros(len(banks), query.shape[1], longest)
        first = banks[0][0].memory.content
        values = query.new_zeros(len(banks), first.values.shape[0], longest)
        bias = query.new_full((len(banks), cells * cells if ordered else 1, longest), -torch.inf)
        for i, (bank, view) in enumerate(zip(banks, views, strict=True)):
            at = 0
            for member in bank:
                content = member.memory.content
                part = slice(at, at + content.keys.shape[1])
                keys[i, :, part], values[i, :, part] = content.keys, content.values
                bias[i, :, part] = math.log(max(member.weight, 1e-6))
                if ordered:
                    bias[i, :, part] += self._nearness(view, member.memory.view, cells)
                at = part.stop
        return _Context(self._network.read(query, keys, values, bias), ordered)

    def _nearness(self, view: View, other: View, cells: int) -> Tensor:
        """The penalty on distance between the cells of two views, in units of the first one's side."""

        def centres(v: View) -> np.ndarray:
            steps = (np.arange(cells) + 0.5) / cells
            y = (v.top + steps * v.height - view.top) / view.height
            x = (v.left + steps * v.width - view.left) / view.width
            return np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2)

        a, b = (torch.from_numpy(centres(v).astype(np.float32)).to(self.device) for v in (view, other))
        nearness: Tensor = self._network.position_bias(a, b)
        return nearness


def _own(embedding: Embedding) -> CompactEmbedding:
    if not isinstance(embedding, CompactEmbedding):
        raise TypeError(f"an embedding of another backend: {type(embedding).__name__}")
    return embedding


def pinned_sha256() -> str | None:
    """The SHA-256 of the embedded weights, as the package has it."""
    for line in _SUMS.read_text().splitlines() if _SUMS.exists() else []:
        digest, _, name = line.partition("  ")
        if name == _WEIGHTS.name:
            return digest
    return None


def _read(path: Path, digest: str | None) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read the weights {path}: {error.strerror or error}") from error
    if digest is not None and hashlib.sha256(data).hexdigest() != digest:
        raise InputError(f"the weights {path} are damaged or were changed (SHA-256 differs); install the package again")
    try:
        state = load(data)
    except (SafetensorError, ValueError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); get it again") from error
    return state
