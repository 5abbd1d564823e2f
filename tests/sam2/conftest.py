"""A SAM 2 network with all of its parts, small enough for tests, and something for it to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.nn.functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_config() -> Callable[..., Any]:
    """Give ``make(side, width, **others)``: a `Sam2VideoConfig`; ``decoder`` are the mask decoder's settings."""
    return _small_config


def _small_config(side: int = 128, width: int = 128, decoder: dict[str, Any] | None = None, **others: Any) -> Any:
    from transformers import (
        Sam2HieraDetConfig,
        Sam2VideoConfig,
        Sam2VideoMaskDecoderConfig,
        Sam2VideoPromptEncoderConfig,
        Sam2VisionConfig,
    )

    widths = [16, 32, 64, 128]
    backbone = Sam2HieraDetConfig(
        hidden_size=widths[0],
        embed_dim_per_stage=widths,
        num_attention_heads_per_stage=[1, 2, 4, 8],
        blocks_per_stage=[1, 1, 2, 1],
        global_attention_blocks=[3],
    )
    settings = {
        "memory_attention_hidden_size": width,
        "memory_attention_num_layers": 2,
        "memory_attention_feed_forward_hidden_size": 128,
        "memory_encoder_hidden_size": width,
        "mask_downsampler_embed_dim": width,
        "memory_fuser_embed_dim": width,
        "memory_fuser_intermediate_dim": 128,
    }
    return Sam2VideoConfig(
        vision_config=Sam2VisionConfig(
            backbone_config=backbone, backbone_channel_list=widths[::-1], fpn_hidden_size=width
        ),
        prompt_encoder_config=Sam2VideoPromptEncoderConfig(hidden_size=width),
        mask_decoder_config=Sam2VideoMaskDecoderConfig(
            hidden_size=width, mlp_dim=128, iou_head_hidden_dim=64, **(decoder or {})
        ),
        image_size=side,
        **(settings | others),
    )


@pytest.fixture
def smooth_film() -> Callable[[int, int, int], Tensor]:
    """Give ``make(frames, side, seed)``: ``(T, 3, side, side)`` in [0, 1], smooth in space and from frame to frame."""
    return _smooth_film


def _smooth_film(frames: int, side: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, max(frames // 3, 2), 9, 9, generator=generator)
    film = F.interpolate(coarse, size=(frames, side, side), mode="trilinear", align_corners=True)
    return film[0].transpose(0, 1).contiguous()
