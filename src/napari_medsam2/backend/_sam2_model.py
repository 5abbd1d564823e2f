"""SAM 2's layers from transformers: configurations of any size, random weights, and weights from a folder."""

from __future__ import annotations

import copy
import json
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor, nn
from transformers import Sam2VideoConfig, Sam2VideoModel, Sam2VisionConfig
from transformers.utils.logging import get_verbosity, set_verbosity

from napari_medsam2.backend._checkpoint_file import misfit
from napari_medsam2.backend._sam2_bank import MEMORY_WIDTH, MemoryLayout
from napari_medsam2.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MemoryCodes", "check_config", "filled", "load_model", "random_model", "sized"]

_WEIGHTS = "model.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
_TWINS = ("shared_image_embedding.positional_embedding", "prompt_encoder.shared_embedding.positional_embedding")
"""Two names of one matrix in SAM 2; files may hold it once."""


def sized(config: Any, side: int | None = None) -> Any:
    """Give a configuration's parts one image size; SAM 2 repeats it in five places.

    Parameters
    ----------
    config : Sam2VideoConfig
        Not changed.
    side : int, optional
        The input's side in pixels; the configuration's own by default. Weights fit any.

    Returns
    -------
    Sam2VideoConfig
        A copy.

    Raises
    ------
    InputError
        If the network cannot be built at this size, or is not SAM 2.
    """
    _check_kind(config)
    config = copy.deepcopy(config)
    side = _side(config) if side is None else side
    config.image_size = config.prompt_encoder_config.image_size = side
    config.vision_config.backbone_feature_sizes = [[side // s, side // s] for s in (4, 8, 16)]
    config.vision_config.backbone_config.image_size = [side, side]
    config.memory_attention_rope_feat_sizes = [side // 16, side // 16]
    check_config(config)
    return config


def _check_kind(config: object) -> None:
    if not isinstance(config, Sam2VideoConfig):
        raise InputError(f"a SAM 2 video configuration is needed (Sam2VideoConfig), not {type(config).__name__}")
    if not isinstance(config.vision_config, Sam2VisionConfig):
        raise InputError("this is not SAM 2: its image encoder must be a sam2_vision_model")


def _side(config: Any) -> int:
    sides = config.image_size if isinstance(config.image_size, list | tuple) else [config.image_size]
    if len(set(sides)) != 1 or not isinstance(sides[0], int):
        raise InputError(f"SAM 2's input must be square, so image_size must be one number, not {config.image_size!r}")
    return sides[0]


def check_config(config: Any) -> None:
    """Check that a configuration is of SAM 2, with parts that fit each other.

    Raises
    ------
    InputError
        Naming what does not fit.
    """
    _check_kind(config)
    vision = config.vision_config
    backbone, side, width = vision.backbone_config, _side(config), vision.fpn_hidden_size
    unit = math.lcm(32, 4 * backbone.window_size_per_stage[0])
    grid = [[side // s, side // s] for s in (4, 8, 16)]
    wrong = [
        (side < unit or side % unit, f"the image size must be a multiple of {unit}, not {side}"),
        (
            list(backbone.patch_stride) != [4, 4] or backbone.num_query_pool_stages != 3,
            "its encoder's strides must be 4 to 32",
        ),
        (vision.num_feature_levels != 3, f"3 feature levels are needed, not {vision.num_feature_levels}"),
        (_grids(vision.backbone_feature_sizes) != grid, f"the feature maps of {side} pixels must measure {grid}"),
        (
            list(config.memory_attention_rope_feat_sizes) != grid[2],
            f"memory_attention_rope_feat_sizes must be {grid[2]}",
        ),
        (config.prompt_encoder_config.image_size != side, f"the prompt encoder must be made for {side} pixels as well"),
        (config.prompt_encoder_config.patch_size != 16, "the prompt encoder's patch size must be 16"),
        (config.mask_downsampler_total_stride != 16, "the memory encoder's mask stride must be 16"),
        (
            config.memory_encoder_output_channels != MEMORY_WIDTH,
            f"memories must have {MEMORY_WIDTH} channels, not {config.memory_encoder_output_channels}",
        ),
        (width % MEMORY_WIDTH, f"the width must be a multiple of {MEMORY_WIDTH}, not {width}"),
        (
            len({width, config.prompt_encoder_config.hidden_size, config.mask_decoder_config.hidden_size}) > 1,
            "image encoder, prompt encoder and mask decoder must have one width",
        ),
        (config.num_maskmem < 1, "a network without memory cannot propagate (num_maskmem is 0)"),
    ]
    for failed, message in wrong:
        if failed:
            raise InputError(f"this SAM 2 configuration cannot be used: {message}")


def _grids(sizes: Any) -> list[list[int]]:
    return [list(s) for s in sizes]


def random_model(config: Any, seed: int = 0) -> Any:
    """Make a network with random weights, in which every part has a say.

    transformers starts the temporal codes, the fusion of memories and others at zero, and everything else so small
    that masks are flat. Here matrices are drawn from a normal distribution with variance 2 / inputs, tokens and codes
    with variance 1, and biases with a standard deviation of 0.2; memories are made about as large as object pointers,
    so that attention does not pass over these, and object scores positive as a rule. The caller's random generator is
    left alone.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model: Any = Sam2VideoModel(config)
        inner = {name for name, m in model.named_modules() if isinstance(m, nn.LayerNorm)}
        for name, parameter in model.named_parameters():
            owner, _, own = name.rpartition(".")
            if owner in inner and own == "weight":
                continue
            if own == "weight":
                token = isinstance(model.get_submodule(owner), nn.Embedding)
                parameter.normal_(std=1.0 if token else (2 / parameter[0].numel()) ** 0.5)
            else:
                parameter.normal_(std=0.2 if own == "bias" else 1.0)
        model.memory_encoder.projection.weight /= 8
        model.mask_decoder.pred_obj_score_head.proj_out.bias.fill_(4)
        buffers = dict(model.named_buffers())
        buffers[_TWINS[1]].copy_(buffers[_TWINS[0]])
    return model.eval()


def load_model(folder: str | Path, side: int | None = None) -> Any:
    """Read a network from a folder as transformers writes it: ``config.json`` and ``model.safetensors``.

    Nothing is executed and nothing is downloaded: pickled weights are refused.

    Parameters
    ----------
    folder : str or Path
        The folder.
    side : int, optional
        Another image size than the configuration's.

    Returns
    -------
    Sam2VideoModel
        On the CPU, in float32.

    Raises
    ------
    InputError
        If something is missing, damaged, pickled or of another network.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; give the folder that holds config.json and {_WEIGHTS}")
    config = sized(_read_config(folder / "config.json"), side)
    state = _read_weights(folder)
    for name, twin in (_TWINS, _TWINS[::-1]):
        if name not in state and twin in state:
            state[name] = state[twin]
    return filled(config, state, f"{folder} (config.json with {_WEIGHTS})")


class MemoryCodes(NamedTuple):
    """Where the tokens of one memory lie: their spatial codes ``(L, 64)``, and how keys are turned by them."""

    position: Tensor
    layout: MemoryLayout


def filled(
    config: Any,
    state: Mapping[str, Tensor],
    where: str,
    origin: Mapping[str, str] | None = None,
    replace: Callable[[Any], None] | None = None,
) -> Any:
    """Build a network and give every place in it its tensor.

    Parameters
    ----------
    config : Sam2VideoConfig
        Checked; see `sized`.
    state : mapping of str to Tensor
        In transformers' names.
    where : str
        The file that they are from, for messages.
    origin : mapping of str to str, optional
        What the tensors are called in that file.
    replace : callable, optional
        Puts other parts in place of the network's own, before tensors are given.

    Returns
    -------
    Sam2VideoModel
        On the CPU, for evaluation.

    Raises
    ------
    InputError
        If tensors are missing, left over, of another size, or not finite.
    """

    def build() -> Any:
        model: Any = Sam2VideoModel(config)
        if replace is not None:
            replace(model)
        return model

    try:
        # Without numbers at first, which costs nothing.
        with torch.device("meta"):
            own = build().state_dict()
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError, IndexError) as error:
        raise InputError(f"no network can be built from {where}: {error}") from error
    if (found := misfit(own, state)) is not None:
        words, first = found
        raise InputError(
            f"{where} does not fit the network that it should be: {words}, such as {(origin or {}).get(first, first)}; "
            "get it again"
        )
    broken = next((k for k, v in state.items() if not v.isfinite().all()), None)
    if broken is not None:
        raise InputError(f"{where} holds NaN or infinity in {broken}; get the file again")
    model = build()
    model.load_state_dict(state)
    return model.eval()


def _read_config(path: Path) -> Any:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"{path.parent} holds no config.json; give a folder in transformers' format") from error
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    kind = data.get("model_type") if isinstance(data, dict) else None
    if kind != Sam2VideoConfig.model_type:
        raise InputError(f"{path} describes a {kind!r} network; SAM 2 with a memory is {Sam2VideoConfig.model_type!r}")
    # Files of older versions hold fields that are named otherwise today; they are understood, so nobody need be told.
    told = get_verbosity()
    set_verbosity(logging.ERROR)
    try:
        return Sam2VideoConfig.from_dict(data)
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a SAM 2 configuration: {str(error).splitlines()[0]}") from error
    finally:
        set_verbosity(told)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / _WEIGHTS
    if not path.is_file():
        pickled = sorted(p.name for p in folder.iterdir() if p.suffix in _PICKLES)
        if pickled:
            raise InputError(
                f"{folder} holds {pickled[0]}, a pickle, which can run code when it is opened; "
                f"get the model as {_WEIGHTS} instead"
            )
        raise InputError(f"{folder} holds no {_WEIGHTS}; get the whole folder again")
    try:
        state = load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{path} is not a whole safetensors file ({error}); get it again") from error
    return {k: v.float() for k, v in state.items()}
