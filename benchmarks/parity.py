"""Ours beside the published implementations: the same weights, films and prompts; what differs, in figures.

``python -m benchmarks.parity --sam2 DIR [--zhu DIR] [--medsam2 DIR] [--edgetam DIR] [--record tests/sam2/records]``

Each DIR is a checkout of the repository; they were made with

* ``facebookresearch/sam2`` at 2b90b9f5ceec907a1c18123530e92e794ad901a4,
* ``SuperMedIntel/Medical-SAM2`` at 18b0f5bcea75cb0c212d652ff22ad063bf39ee3a,
* ``bowang-lab/MedSAM2`` at 332f30d420f1d1b08e2a79b3ae6a602458808383,
* ``facebookresearch/EdgeTAM`` at 9cc44bfe9e16cc374242917b91283c718410ea87.

Their requirements (hydra-core, iopath, torchvision, timm) have to be installed beside ours. Each runs in a process of
its own, since their packages share a name. ``--record`` writes their answers, thinned; tests compare ours.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from tests.sam2.cases import Case, Given, Said

SMALL = [
    "model.image_size=128",
    "model.image_encoder.neck.d_model=128",
    "model.image_encoder.neck.position_encoding.num_pos_feats=128",
    "model.memory_attention.d_model=128",
    "model.memory_attention.num_layers=2",
    "model.memory_attention.layer.d_model=128",
    "model.memory_attention.layer.dim_feedforward=256",
    "model.memory_attention.layer.self_attention.embedding_dim=128",
    "model.memory_attention.layer.self_attention.feat_sizes=[8,8]",
    "model.memory_attention.layer.cross_attention.embedding_dim=128",
    "++model.memory_encoder.in_dim=128",
    "++model.memory_encoder.mask_downsampler.embed_dim=128",
    "model.memory_encoder.fuser.layer.dim=128",
]
HIERA = [
    "model.image_encoder.trunk.embed_dim=24",
    "model.image_encoder.neck.backbone_channel_list=[192,96,48,24]",
    "model.memory_attention.layer.cross_attention.feat_sizes=[8,8]",
]
EDGE = [
    "model.memory_attention.layer.cross_attention.q_sizes=[8,8]",
    "model.memory_attention.layer.cross_attention.k_sizes=[4,4]",
    "model.spatial_perceiver.num_latents=16",
    "model.spatial_perceiver.num_latents_2d=16",
]


@dataclass(frozen=True)
class Source:
    """A published implementation: its configuration, its predictor's class, and how it is made small."""

    config: str
    predictor: str
    folder: str = "sam2/configs"
    small: tuple[str, ...] = (*SMALL, *HIERA)


SOURCES = {
    "sam2.1": Source("sam2.1/sam2.1_hiera_t.yaml", "sam2.sam2_video_predictor.SAM2VideoPredictor"),
    "sam2": Source("sam2/sam2_hiera_s.yaml", "sam2.sam2_video_predictor.SAM2VideoPredictor"),
    "zhu": Source("sam2_hiera_t.yaml", "sam2_train.sam2_video_predictor.SAM2VideoPredictor", "sam2_train"),
    "medsam2": Source("sam2.1_hiera_t512.yaml", "sam2.sam2_video_predictor.SAM2VideoPredictor"),
    "edgetam": Source("edgetam.yaml", "sam2.sam2_video_predictor.SAM2VideoPredictor", small=(*SMALL, *EDGE)),
}
FOLDERS = {"sam2.1": "sam2", "sam2": "sam2", "zhu": "zhu", "medsam2": "medsam2", "edgetam": "edgetam"}


def build(root: Path, name: str, seed: int, absent: bool, small: bool = True, structured: bool = False) -> Any:
    """Make the published network, with weights from a seed."""
    import torch
    from tests.sam2.cases import values

    sys.path.insert(0, str(root))
    hydra = importlib.import_module("hydra")
    glob = importlib.import_module("hydra.core.global_hydra")
    if name == "edgetam":
        # Its weights for ImageNet would be downloaded.
        timm: Any = importlib.import_module("timm.models")
        create = timm.create_model
        timm.create_model = lambda *args, **kwargs: create(*args, **{**kwargs, "pretrained": False})
    utils = importlib.import_module("hydra.utils")
    conf = importlib.import_module("omegaconf")
    source = SOURCES[name]
    # Some of these packages set hydra up when they are imported.
    importlib.import_module(source.predictor.rpartition(".")[0])
    glob.GlobalHydra.instance().clear()
    hydra.initialize_config_dir(str((root / source.folder).resolve()), version_base=None)
    # What their build_sam2_video_predictor adds; but holes are filled on a GPU only.
    extra = "++model.sam_mask_decoder_extra_args.dynamic_multimask_"
    added = [f"{extra}via_stability=true", f"{extra}stability_delta=0.05", f"{extra}stability_thresh=0.98"]
    added += ["++model.binarize_mask_from_pts_for_mem_enc=true", f"++model._target_={source.predictor}"]
    config = hydra.compose(source.config, overrides=[*(source.small if small else ()), *added])
    conf.OmegaConf.resolve(config)
    model = utils.instantiate(config.model, _recursive_=True).eval()
    state = model.state_dict()
    made = values({k: tuple(v.shape) for k, v in state.items()}, seed, absent, structured)
    model.load_state_dict({k: torch.from_numpy(v) for k, v in made.items()})
    return model


def normalized(film: Any) -> Any:
    """Subtract ImageNet's mean and divide by its deviation."""
    import torch

    mean, std = (torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (film - mean) / std


def reference_stills(model: Any, prompts: dict[str, Given]) -> dict[str, np.ndarray]:
    """Image features, and what the decoder says to each prompt, by the published code."""
    import torch
    from tests.sam2.cases import FILMS, make_film

    with torch.inference_mode():
        out = model.forward_image(normalized(make_film(FILMS[0])[:1]))
        fine, middle, coarse = out["backbone_fpn"]
        answers = {"fine": fine, "middle": middle, "coarse": coarse}
        features = coarse + model.no_mem_embed.view(1, -1, 1, 1)
        low = torch.linspace(-8, 8, 64).view(1, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
        for name, prompt in prompts.items():
            points, labels = their_points(prompt)
            inputs = None if not len(labels) else {"point_coords": points[None], "point_labels": labels[None]}
            for refined in (False, True) if len(labels) else (False,):
                said = model._forward_sam_heads(
                    backbone_features=features,
                    point_inputs=inputs,
                    mask_inputs=low if refined else None,
                    high_res_features=[fine, middle],
                    multimask_output=model._use_multimask(True, inputs),
                )
                _, _, ious, masks, _, pointer, score = said
                key = f"{name}{', refined' if refined else ''}"
                answers |= {
                    f"{key}/logits": masks[0],
                    f"{key}/iou": ious.amax(1),
                    f"{key}/pointer": pointer,
                    f"{key}/score": score[0],
                }
    return {k: v.numpy() for k, v in answers.items()}


def their_points(prompt: Given) -> tuple[Any, Any]:
    """``(n, 2)`` ``(x, y)``; a box's corners are pixel centres."""
    import torch

    assert not isinstance(prompt, np.ndarray)
    points = torch.from_numpy(np.asarray(prompt.points)).float().flip(1)
    labels = torch.from_numpy(np.asarray(prompt.labels)).int()
    if prompt.box is not None:
        y0, x0, y1, x1 = prompt.box
        corners = torch.tensor([[x0 + 0.5, y0 + 0.5], [x1 - 0.5, y1 - 0.5]])
        points, labels = torch.cat([corners, points]), torch.cat([torch.tensor([2, 3]).int(), labels])
    return points, labels


class Torch:
    """``torch`` without a GPU and, unless ``rounded``, without the bfloat16 that predictors round memories to."""

    def __init__(self, rounded: bool) -> None:
        self.rounded = rounded

    def __getattr__(self, name: str) -> Any:
        import torch

        return torch.float32 if name == "bfloat16" and not self.rounded else getattr(torch, name)

    def device(self, *_: Any) -> Any:
        """Give the CPU, whatever was asked for."""
        import torch

        return torch.device("cpu")


def reference_film(model: Any, case: Case, rounded: bool) -> Said:
    """A propagation by the published code."""
    import torch
    from tests.sam2.cases import SIDE, Said, make_film

    module = importlib.import_module(type(model).__module__)
    module.load_video_frames = lambda **_: (normalized(make_film(case)), SIDE, SIDE)  # type: ignore[attr-defined]
    module.tqdm = lambda x, **_: x  # type: ignore[attr-defined]
    module.torch = Torch(rounded)  # type: ignore[attr-defined]
    state = model.init_state("")
    for frame, prompts in case.seeds.items():
        for number, prompt in enumerate(prompts):
            if isinstance(prompt, np.ndarray):
                model.add_new_mask(state, frame, number, torch.from_numpy(prompt))
            else:
                box = None
                if prompt.box is not None:
                    y0, x0, y1, x1 = prompt.box
                    box = np.array([x0 + 0.5, y0 + 0.5, x1 - 0.5, y1 - 0.5], np.float32)
                points, labels = np.asarray(prompt.points)[:, ::-1].copy(), np.asarray(prompt.labels)
                some = {} if not len(labels) else {"points": points, "labels": labels}
                if hasattr(model, "add_new_points_or_box"):
                    model.add_new_points_or_box(state, frame, number, box=box, **some)
                else:
                    corners, both = their_points(prompt)
                    model.add_new_points(state, frame, number, corners.numpy(), both.numpy())
    said = Said()
    for frame, _, _ in model.propagate_in_video(state, start_frame_idx=case.start, reverse=case.reverse):
        outs = []
        for number in range(len(prompts)):
            one = state["output_dict_per_obj"][number]
            outs.append(one["cond_frame_outputs"].get(frame) or one["non_cond_frame_outputs"][frame])
        said.logits[frame] = torch.cat([o["pred_masks"][:, 0] for o in outs]).float().numpy()
        said.pointers[frame] = torch.cat([o["obj_ptr"] for o in outs]).float().numpy()
        if "object_score_logits" in outs[0]:
            said.scores[frame] = torch.cat([o["object_score_logits"][:, 0] for o in outs]).float().numpy()
    return said


def reference(model: Any, name: str, case: Case, rounded: bool) -> Said:
    """A propagation by the published code; EdgeTAM's fails with several objects, which it treats one by one anyway."""
    from tests.sam2.cases import Said

    if name != "edgetam":
        return reference_film(model, case, rounded)
    count = len(case.seeds[next(iter(case.seeds))])
    alone = []
    for number in range(count):
        seeds = {frame: [prompts[number]] for frame, prompts in case.seeds.items()}
        alone.append(reference_film(model, dataclasses.replace(case, seeds=seeds), rounded))
    merged = {
        key: {f: np.concatenate([getattr(one, key)[f] for one in alone]) for f in getattr(alone[0], key)}
        for key in ("logits", "scores", "pointers")
    }
    return Said(**merged)


def ours(model: Any, name: str) -> Any:
    """Our backend from a file in the published format."""
    import torch
    from tests.sam2.cases import SIDE

    from napari_medsam2.backend import load_backend

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pt"
        torch.save({"model": model.state_dict()}, path)
        return load_backend(str(path), "cpu", side=SIDE)


def compare(name: str, root: Path, record: Path | None, structured: bool = False) -> None:
    """Print a line a case."""
    import torch
    from tests.sam2.cases import FILMS, STILLS, make_film, propagate
    from tests.sam2.recorded import pack_shapes, thin_film, thin_stills

    torch.set_num_threads(1)
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    kept: dict[str, np.ndarray] = {}
    for case in FILMS:
        model = build(root, name, case.weights, case.absent, structured=structured)
        backend = ours(model, name)
        if case is FILMS[0]:
            answers = reference_stills(model, STILLS)
            kept |= thin_stills(answers)
            compare_stills(name, backend, answers, make_film(case)[:1])
        for dtype in (torch.float32, torch.bfloat16):
            theirs = reference(model, name, case, dtype is torch.bfloat16)
            backend.memory_dtype = dtype
            report(f"{name:8} {case.name:26} {str(dtype)[6:]:8}", propagate(backend, case), theirs)
            if dtype is torch.float32 and (name == "sam2.1" or case is FILMS[0]):
                kept |= thin_film(case.name, theirs)
    kept["shapes"] = pack_shapes({k: tuple(v.shape) for k, v in model.state_dict().items()})
    if record is not None:
        record.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(record / f"{name}.npz", **kept)  # type: ignore[arg-type]


def report(head: str, mine: Said, theirs: Said) -> None:
    """Print what differs in a film."""
    from tests.sam2.cases import iou
    from tests.sam2.recorded import shown

    worst, overlap, pointer, score, present = 0.0, 1.0, 0.0, 0.0, []
    for frame, logits in theirs.logits.items():
        own = shown(mine.logits[frame], logits.shape)
        worst = max(worst, float(np.abs(own - logits).max()))
        overlap = min(overlap, *(iou(a > 0, b > 0) for a, b in zip(own, logits, strict=True)))
        pointer = max(pointer, float(np.abs(mine.pointers[frame] - theirs.pointers[frame]).max()))
        if frame in theirs.scores:
            score = max(score, float(np.abs(mine.scores[frame] - theirs.scores[frame]).max()))
            present += [float(s) for s in theirs.scores[frame]]
    there = [one for one in theirs.logits.values() if (one > -1000).any()]
    spread = float(np.mean([one[one > -1000].std() for one in there]))
    absent = f"  absent {sum(s <= 0 for s in present)} of {len(present)}" if present else ""
    print(
        f"{head} |Δ logit| {worst:.1e} (σ {spread:.1f})  IoU ≥ {overlap:.4f}  |Δ pointer| {pointer:.1e}"
        f"  |Δ score| {score:.1e}{absent}"
    )


def compare_stills(name: str, backend: Any, answers: dict[str, np.ndarray], frame: Any) -> None:
    """Print what differs on one image."""
    from tests.sam2.recorded import our_stills

    mine = our_stills(backend, frame)
    for key, value in answers.items():
        print(f"{name:8} {key:34} max |Δ| {np.abs(mine[key] - value).max():.1e} (σ {value.std():.2f})")


def main() -> int:
    """Run those whose folders are given."""
    parser = argparse.ArgumentParser(description=__doc__)
    for folder in ("sam2", "zhu", "medsam2", "edgetam"):
        parser.add_argument(f"--{folder}", type=Path)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--structured", action="store_true", help="matrices that are cosine transforms, not noise")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        compare(args.one, getattr(args, FOLDERS[args.one]).resolve(), args.record, args.structured)
        return 0
    code = 0
    for name, folder in FOLDERS.items():
        if getattr(args, folder) is not None:
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.parity", *sys.argv[1:], "--one", name], check=False
            )
            code = code or done.returncode
    return code


if __name__ == "__main__":
    sys.exit(main())
