"""What the published 2-D loop of MedSAM-2 keeps and how likely it reads it, for memories that are made from a seed.

``python -m benchmarks.released DIR [--record tests/sam2/records/released.npz]``, DIR being a checkout of
``SuperMedIntel/Medical-SAM2`` at 18b0f5bcea75cb0c212d652ff22ad063bf39ee3a. Its function ``validation_sam`` is run as it
is, on the CPU, with a network that returns the features it is told to; the bank is looked at where it is drawn from.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np


class _Torch:
    """``torch`` on a machine without CUDA, which tells what is drawn from."""

    def __init__(self, told: list[tuple[list[int], np.ndarray]]) -> None:
        import torch

        self._torch, self._told = torch, told
        self.cuda = types.SimpleNamespace(get_device_properties=lambda _: types.SimpleNamespace(major=0))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)

    def device(self, *_: Any) -> Any:
        return self._torch.device("cpu")

    def autocast(self, **_: Any) -> Any:
        return contextlib.nullcontext()

    def multinomial(self, odds: Any, num_samples: int, replacement: bool) -> Any:
        bank = sys._getframe(1).f_locals["memory_bank_list"]
        # A memory is known by its positional code, which the network below numbers them with.
        self._told.append(([int(element[1].flatten()[0]) for element in bank], odds[0].numpy().copy()))
        return self._torch.zeros(1, num_samples, dtype=self._torch.long)


class _Network:
    """Returns, image by image, what it is told to."""

    hidden_dim = 1

    def __init__(self) -> None:
        from tests.sam2.released import offered

        self.offered, self.at = offered(), -1
        self.sam_prompt_encoder = self._prompts
        self._prompts.get_dense_pe = lambda: None  # type: ignore[attr-defined]

    def eval(self) -> None:
        """Do nothing."""

    def forward_image(self, _: Any) -> None:
        self.at += 1

    def _prepare_backbone_features(self, _: Any) -> Any:
        import torch

        coarse = torch.from_numpy(self.offered.embeddings[self.at]).view(-1, 1, 1)
        features = [torch.zeros(256 * 256, 1, 1), torch.zeros(128 * 128, 1, 1), coarse]
        return None, features, [torch.zeros_like(f) for f in features], None

    def memory_attention(self, curr: Any, **_: Any) -> Any:
        return curr[0]

    class _Prompts:
        def __call__(self, **_: Any) -> tuple[None, None]:
            return None, None

    _prompts = _Prompts()

    def sam_mask_decoder(self, **_: Any) -> Any:
        import torch

        return torch.zeros(1, 1, 4, 4), torch.tensor([[float(self.offered.confidences[self.at])]]), None, None

    def _encode_new_memory(self, **_: Any) -> Any:
        import torch

        return torch.from_numpy(self.offered.features[self.at]).view(1, 2, 2, 4), [torch.full((1, 2, 2, 4), self.at)]


def run(root: Path) -> tuple[np.ndarray, np.ndarray]:
    """Run the published loop.

    Returns
    -------
    tuple of ndarray
        Before each image but the first: which images' memories are in the bank ``(N − 1, 16)``, −1 where there are
        fewer, and the odds of reading each.
    """
    import torch
    from tests.sam2.released import IMAGES, SIZE

    told: list[tuple[list[int], np.ndarray]] = []
    plain = torch.Tensor.to

    def to(self: Any, *args: Any, **kwargs: Any) -> Any:
        if str(kwargs.get("device", "cpu")).startswith("cuda"):
            kwargs.pop("device")
        return plain(self, *args, **kwargs)

    torch.Tensor.to = to  # type: ignore[method-assign]
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    args = types.SimpleNamespace(gpu_device=0, out_size=4, image_size=4, vis=1, path_helper={"sample_path": ""})
    helpers = types.ModuleType("func_2d.utils")
    helpers.eval_seg = lambda *_: (0.0, 0.0)  # type: ignore[attr-defined]
    helpers.vis_image = lambda *_, **__: None  # type: ignore[attr-defined]
    configuration = types.ModuleType("cfg")
    configuration.parse_args = lambda: args  # type: ignore[attr-defined]
    settings = types.ModuleType("conf")
    settings.settings = None  # type: ignore[attr-defined]
    sys.modules |= {"func_2d.utils": helpers, "cfg": configuration, "conf": settings}
    sys.path.insert(0, str(root.resolve()))
    loop: Any = importlib.import_module("func_2d.function")
    loop.torch = _Torch(told)
    image = torch.zeros(1, 3, 4, 4)
    pack = {"image": image, "mask": image[:, :1], "image_meta_dict": {"filename_or_obj": ["x"]}}
    loop.validation_sam(args, [pack] * IMAGES, 0, _Network())
    kept = np.full((len(told), SIZE), -1)
    odds = np.zeros((len(told), SIZE), np.float32)
    for row, (numbers, chances) in enumerate(told):
        kept[row, : len(numbers)], odds[row, : len(numbers)] = numbers, chances
    return kept, odds


def main() -> int:
    """Print how often a member was replaced, and record."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--record", type=Path)
    args = parser.parse_args()
    kept, odds = run(args.root)
    changes = sum(set(a) != set(b) for a, b in zip(kept[16:], kept[15:], strict=False))
    print(f"{len(kept)} images read a bank; a member was replaced {changes} times after it was full")
    if args.record:
        args.record.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(args.record, kept=kept.astype(np.int16), odds=odds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
