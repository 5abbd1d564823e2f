"""SAM 2 behind the backend protocol, on transformers' layers.

transformers' `Sam2VideoModel` is a container of layers here: vision encoder, prompt encoder, mask decoder, memory
attention and memory encoder (Ravi et al., "SAM 2: Segment Anything in Images and Videos", arXiv 2408.00714). Its frame
loop, its session and its processors are not used: they keep every frame and walk through objects one by one. A test
holds this backend, driven by the ``fifo`` bank, against that frame loop. Private calls into transformers are made here
and in `_sam2_bank` only.

Where SAM 2 has no answer, or another one:

* members of banks without an order all get the temporal code of conditioning frames, see `_sam2_bank.plan_reading`;
* weights of members enter the memory attention as their logarithm, so that a weight of 2 is exactly two copies;
* ``ordered`` makes no difference to how positions are coded: SAM 2 was trained with its rotary codes and needs them;
* a walk backward begins with the prompted slices' memories alone, as after a reset of Meta's predictor, which would
  otherwise still read what it remembered on its way forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.sam2_video.modeling_sam2_video import NO_OBJ_SCORE

from napari_medsam2.backend._computing import check_precision, inferring
from napari_medsam2.backend._sam2_bank import (
    Content,
    MemoryLayout,
    Pointer,
    Reading,
    attend_weighted,
    axial_rotation,
    plan_reading,
    tokens,
)
from napari_medsam2.backend._sam2_embedding import Sam2Embedding, ViewFeatures, own_embedding
from napari_medsam2.backend._sam2_model import MemoryCodes, check_config, load_model, random_model, sized
from napari_medsam2.backend._sam2_prompts import NO_POINT, low_logits, prompt_points
from napari_medsam2.backend._settling import compile_encoder, settled
from napari_medsam2.backend.protocol import Attended, Decoded, Memory, ViewPrompt
from napari_medsam2.geometry import View, ViewSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import Sam2VideoConfig, Sam2VideoModel

    from napari_medsam2.backend.protocol import Embedding

__all__ = ["Sam2Backend", "Sam2Embedding"]

# ImageNet's, which SAM 2 was trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_ADOPTED_SCALE, _ADOPTED_BIAS = 20.0, -10.0
"""SAM 2 turns a given mask into logits of ±10."""


@dataclass(frozen=True, slots=True, eq=False)
class _Sam2Decoded(Decoded):
    """What the decoder says, and the pointers of the slices before, which the memory to be made carries on."""

    trails: tuple[tuple[Pointer, ...], ...] = ()

    def take(self, indices: Sequence[int]) -> _Sam2Decoded:
        bare = Decoded.take(self, indices)
        trails = tuple(self.trails[i] for i in indices)
        return _Sam2Decoded(bare.logits, bare.iou, bare.score, bare.pointer, trails)


class _Context(NamedTuple):
    """Coarse features ``(O, C, h, w)`` after reading the banks, and what each object's next memory carries on."""

    coarse: Tensor
    trails: tuple[tuple[Pointer, ...], ...]


class _Masks(NamedTuple):
    """Of G objects: logits ``(G, S / 4, S / 4)``, predicted IoU and object score ``(G,)``, pointers ``(G, C)``."""

    logits: Tensor
    iou: Tensor
    score: Tensor
    pointer: Tensor


class Sam2Backend:
    """A SAM 2 network.

    Parameters
    ----------
    model : Sam2VideoModel
        With its weights; it is moved to the device, to float32 and to evaluation.
    device : torch.device or str
        Where to compute.
    name : str
        What `load_backend` was asked for.
    precision : str
        ``"float32"``, or what matrix products and convolutions are done in: ``"bfloat16"`` or, on a GPU, ``"float16"``.
    compiled : bool
        Whether the image encoder is compiled, which takes minutes once and makes it faster.

    Raises
    ------
    InputError
        If the model's configuration is not SAM 2's, the device cannot compute in that precision, has not enough memory,
        or the encoder cannot be compiled here.
    """

    batch = 8
    settable = True
    weights = ""
    memory_dtype = torch.bfloat16
    """What memories are rounded to, as Meta's predictor does."""

    def __init__(
        self,
        model: Sam2VideoModel,
        device: torch.device | str = "cpu",
        name: str = "sam2",
        precision: str = "float32",
        compiled: bool = False,
    ) -> None:
        check_config(model.config)
        self.name, self.device = name, torch.device(device)
        self.precision = check_precision(precision, self.device)
        config: Any = model.config
        self.views = ViewSpec(side=int(config.image_size), regions=False, stretch=True)
        self.model = settled(self, model)
        self._recent = config.num_maskmem - 1
        self._reach = config.max_object_pointers_in_encoder - 1
        cells = self.views.side // 16
        at = (self.device, torch.float32)
        with torch.no_grad():
            shape = torch.Size((1, config.vision_config.fpn_hidden_size, cells, cells))
            self._position = self.model.vision_encoder.neck.position_encoding(shape, *at).flatten(2).transpose(1, 2)
            shape = torch.Size((1, config.memory_encoder_output_channels, cells, cells))
            self._map_position = self.model.memory_encoder.position_encoding(shape, *at)
            self._memory_position, self._layout = self._codes(cells)
            self._image_position = self.model.get_image_wide_positional_embeddings()
            self._mean, self._std = (torch.tensor(x, device=self.device).view(1, 3, 1, 1) for x in (_MEAN, _STD))
        if compiled:
            compile_encoder(self)

    def _codes(self, cells: int) -> MemoryCodes:
        """Where the tokens of a memory lie that was made of a map of ``cells`` × ``cells``."""
        attention = self.model.memory_attention.layers[0].cross_attn_image
        rotation = axial_rotation(cells, attention.head_dim, self.device)
        return MemoryCodes(self._map_position[0].flatten(1).T, MemoryLayout(0, *rotation))

    def _shorten(self, maps: Tensor) -> Tensor:
        """Make of memory maps ``(O, 64, h, w)`` the tokens ``(O, L, 64)`` that are kept."""
        return maps.flatten(2).transpose(1, 2)

    @classmethod
    def from_model(cls, model: Sam2VideoModel, device: torch.device | str = "cpu", name: str = "sam2") -> Sam2Backend:
        """Take over a network that is there."""
        return cls(model, device, name)

    @classmethod
    def from_config(cls, config: Sam2VideoConfig, device: torch.device | str = "cpu", seed: int = 0) -> Sam2Backend:
        """Make a network with random weights, for tests and for measuring time; see `random_model`.

        The configuration's ``image_size`` counts; the sizes of its parts follow it.

        Raises
        ------
        InputError
            If the configuration is not SAM 2's, or the network cannot be built at its image size.
        """
        return cls(random_model(sized(config), seed), device)

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: torch.device | str = "cpu",
        side: int | None = None,
        name: str | None = None,
        precision: str = "float32",
        compiled: bool = False,
    ) -> Sam2Backend:
        """Load a folder in transformers' format (``config.json`` and ``model.safetensors``), offline.

        Parameters
        ----------
        path : str or Path
            The folder.
        device : torch.device or str
            Where to compute.
        side : int, optional
            Another side of the input than the configuration's, in pixels: smaller is faster.
        name : str, optional
            What `load_backend` was asked for; the path by default.
        precision, compiled
            As for the class.

        Raises
        ------
        InputError
            If something is missing, damaged, pickled or of another network.
        """
        return cls(load_model(path, side), device, str(path) if name is None else name, precision, compiled)

    @inferring
    def encode(self, images: Tensor) -> Sam2Embedding:
        """Encode views ``(B, 3, S, S)`` float32 in [0, 1]."""
        pixels = (images.to(self.device, torch.float32) - self._mean) / self._std
        if self.precision is not torch.float32:
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        fine, middle, coarse = self.model.vision_encoder(pixels, return_dict=True).fpn_hidden_states
        decoder = self.model.mask_decoder
        # Clones, so that one view that is kept does not keep its whole batch alive.
        views = zip(decoder.conv_s0(fine), decoder.conv_s1(middle), coarse, strict=True)
        return Sam2Embedding(
            tuple(ViewFeatures(*(m.clone(memory_format=torch.contiguous_format) for m in v)) for v in views)
        )

    def join(self, embeddings: Sequence[Embedding]) -> Sam2Embedding:
        """Put embeddings together along the batch axis; nothing is copied."""
        return Sam2Embedding(tuple(entry for e in embeddings for entry in own_embedding(e).entries))

    @inferring
    def decode(self, embedding: Embedding, prompts: Sequence[ViewPrompt], context: Any = None) -> Decoded:
        """Predict masks ``(O, S / 4, S / 4)`` from prompts and, where given, from memory.

        One click, or none, is ambiguous: of three masks the one with the highest predicted IoU is taken. With more
        clicks or a box there is one mask, in place of which the best of the three is taken where it is not stable
        (where its area changes much with the threshold). Objects that are absent have logits of −1024.
        """
        own = own_embedding(embedding)
        placed = [prompt_points(p) for p in prompts]
        groups: dict[tuple[int, bool], list[int]] = {}
        for i, (prompt, (_, labels)) in enumerate(zip(prompts, placed, strict=True)):
            groups.setdefault((len(labels), prompt.previous is not None), []).append(i)
        low = tuple(self.model.prompt_encoder.mask_input_size)
        parts = []
        for (_, refined), rows in groups.items():
            coordinates = torch.stack([placed[i][0] for i in rows]).to(self.device)
            labels = torch.stack([placed[i][1] for i in rows]).to(self.device)
            masks = (
                torch.stack([low_logits(prompts[i].previous, low) for i in rows]).to(self.device) if refined else None
            )
            coarse = None if context is None else context.coarse[rows]
            parts.append(self._decode(own.take(rows), coarse, coordinates, labels, masks))
        order = torch.tensor([i for rows in groups.values() for i in rows], device=self.device).argsort()
        logits, iou, score, pointer = (torch.cat(p)[order] for p in zip(*parts, strict=True))
        trails = ((),) * len(prompts) if context is None else context.trails
        return _Sam2Decoded(logits, iou, score, pointer, trails)

    @inferring
    def adopt(self, embedding: Embedding, masks: Tensor) -> Decoded:
        """Take masks ``(O, S, S)`` in [0, 1] as they are: logits ``(O, S, S)`` of ±10.

        Pixels of one half and more count; of an object that is smaller than a pixel, those that show most of it.
        """
        own = own_embedding(embedding)
        masks = masks.to(self.device, torch.float32)
        highest = masks.flatten(1).amax(1)
        present = highest > 0
        drawn = (masks >= highest.clamp(max=0.5).view(-1, 1, 1)) & present.view(-1, 1, 1)
        # The decoder is asked for nothing but the pointer of the object under the mask.
        low = self.model.mask_downsample(drawn.float().unsqueeze(1))
        points = torch.zeros(len(masks), 1, 2, device=self.device)
        labels = torch.full((len(masks), 1), NO_POINT, device=self.device)
        found = self._decode(own, own.maps()[2], points, labels, low, ambiguous=False)
        pointer = torch.where(present.unsqueeze(1), found.pointer, self.model.no_object_pointer)
        logits, score = (x.float() * _ADOPTED_SCALE + _ADOPTED_BIAS for x in (drawn, present))
        return _Sam2Decoded(logits, torch.ones_like(score), score, pointer, ((),) * len(masks))

    @inferring
    def remember(
        self, embedding: Embedding, decoded: Decoded, views: Sequence[View], indices: Sequence[int], prompted: bool
    ) -> list[Memory]:
        """Encode one memory an object: features of 64 channels at stride 16, and its pointer.

        Masks that a person helped to make are entered as they are; others as probabilities.
        """
        own = own_embedding(embedding)
        config, side = self.model.config, self.views.side
        logits = decoded.logits.unsqueeze(1)
        if prompted and logits.shape[-1] == side:
            # As Meta's predictor, which keeps given masks at a quarter of their size until they are remembered.
            quarter = (side // 4, side // 4)
            # On the CPU: not every device can shrink with antialiasing.
            logits = F.interpolate(logits.cpu(), size=quarter, mode="bilinear", align_corners=False, antialias=True)
            logits = logits.to(self.device)
        if logits.shape[-1] != side:
            logits = F.interpolate(logits, size=(side, side), mode="bilinear", align_corners=False)
        masks = (logits > 0).float() if prompted else logits.sigmoid()
        masks = masks * config.sigmoid_scale_for_mem_enc + config.sigmoid_bias_for_mem_enc
        maps, _ = self.model.memory_encoder(own.maps()[2], masks)
        absent = self.model.occlusion_spatial_embedding_parameter
        if absent is not None:
            maps = maps + (decoded.score <= 0).float().view(-1, 1, 1, 1) * absent[..., None, None]
        flat = self._shorten(maps).to(self.memory_dtype).float().flatten(1)
        scales, features = flat.norm(dim=1), F.normalize(flat, dim=1)
        trails = decoded.trails if isinstance(decoded, _Sam2Decoded) and not prompted else ((),) * len(indices)
        if decoded.pointer is None:
            raise TypeError("what another backend decoded cannot be remembered: it has no object pointers")
        described: dict[int, Tensor] = {}
        out = []
        for i, (view, index, trail) in enumerate(zip(views, indices, trails, strict=True)):
            pointers = (Pointer(index, decoded.pointer[i].clone()), *trail)
            content, feature = Content(scales[i].clone(), pointers, self.memory_dtype), features[i].clone()
            # Objects that share a view share its descriptor: it is the largest part of a memory.
            entry = own.entries[i]
            if id(entry) not in described:
                described[id(entry)] = F.normalize(entry.coarse.flatten().float(), dim=0)
            descriptor = described[id(entry)]
            size = sum(t.numel() * t.element_size() for t in (pointers[0].token, feature, descriptor))
            reason = "prompt" if prompted else "admitted"
            confidence = float(decoded.iou[i])
            out.append(Memory(index, view, content, feature, descriptor, confidence, reason, size))  # type: ignore[arg-type]
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
        """Read banks by SAM 2's memory attention; objects that read equally many memories go through it together.

        Parameters
        ----------
        embedding, banks, views, ordered
            As in the protocol.
        index : int, optional
            The slice that reads, from which pointers are dated; without it the offsets of a ``fifo`` bank tell it,
            except on the first slice after one of several prompted ones, and in other banks pointers are not read.
        run : range, optional
            The slices that are neighbours, in the order of the walk, from which distances are counted; in a stack of
            under 16, SAM 2 dates pointers by their distance as a share of its length. Without it they are counted from
            number to number, and the walk is taken to come from the nearest member, which may be one that lies ahead.
        """
        reach = self._reach if run is None else max(1, min(len(run), self._reach + 1) - 1)
        readings = [plan_reading(bank, index if ordered else None, self._recent, reach, run) for bank in banks]
        coarse = own_embedding(embedding).maps()[2]
        features = coarse.flatten(2).transpose(1, 2).float() + 0.1 * self._position
        groups: dict[tuple[int, int, bool], list[int]] = {}
        for i, reading in enumerate(readings):
            groups.setdefault(reading.structure, []).append(i)
        out = torch.empty_like(features)
        for rows in groups.values():
            out[rows] = self._attend(features[rows], [readings[i] for i in rows], reach)
        return _Context(out.transpose(1, 2).reshape(coarse.shape), tuple(r.trail for r in readings))

    def _attend(self, features: Tensor, readings: Sequence[Reading], reach: int) -> Tensor:
        memory, codes, bias = tokens(readings, self.model, self._memory_position, reach)
        members = len(readings[0].features)
        return attend_weighted(self.model.memory_attention, features, memory, codes, bias, members, self._layout)

    def _decode(
        self,
        embedding: Sam2Embedding,
        coarse: Tensor | None,
        points: Tensor,
        labels: Tensor,
        masks: Tensor | None,
        ambiguous: bool | None = None,
    ) -> _Masks:
        """Run the mask decoder for G objects with equally many points ``(G, n, 2)``; each is one entry of the batch."""
        model, config = self.model, self.model.config
        fine, middle, raw = embedding.maps()
        if ambiguous is None:
            given = int((labels[0] != NO_POINT).sum())
            tracking = coarse is not None and not config.multimask_output_for_tracking
            few = config.multimask_min_pt_num <= given <= config.multimask_max_pt_num
            ambiguous = bool(config.multimask_output_in_sam and few and not tracking)
        if coarse is None:
            coarse = raw + model.no_memory_embedding.view(1, -1, 1, 1)
        # Coordinates in half precision would be off by pixels.
        with torch.autocast(self.device.type, enabled=False):
            sparse, dense = model.prompt_encoder(points.unsqueeze(1), labels.unsqueeze(1), None, masks)
        logits, iou, told, score = model.mask_decoder(
            image_embeddings=coarse,
            image_positional_embeddings=self._image_position.expand(len(points), -1, -1, -1),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=ambiguous,
            high_resolution_features=[fine, middle],
        )
        # The second axis is the library's objects of one image, of which there is one here.
        logits, iou, told, score = (x.float() for x in (logits[:, 0], iou[:, 0], told[:, 0], score[:, 0, 0]))
        rows = torch.arange(len(points), device=self.device)
        best = iou.argmax(1)
        there = (score > 0).unsqueeze(1)
        pointer = torch.where(there, model.object_pointer_proj(told[rows, best]).float(), model.no_object_pointer)
        chosen = torch.where(there.unsqueeze(2), logits[rows, best], NO_OBJ_SCORE)
        return _Masks(chosen, iou[rows, best].clamp(0, 1), score, pointer)
