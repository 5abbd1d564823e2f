from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
import torch
from benchmarks.leaks import SAME, closest
from safetensors.torch import load_file
from scipy import ndimage

import napari_medsam2.training.__main__ as command
from napari_medsam2 import InputError, load_backend
from napari_medsam2.backend._compact_network import CompactNetwork
from napari_medsam2.training import pool
from napari_medsam2.training.anatomy import draw_anatomy
from napari_medsam2.training.augment import jitter_intensity
from napari_medsam2.training.clips import ClipSource
from napari_medsam2.training.losses import soft_iou
from napari_medsam2.training.pool import AnnotatedImage, load_images, read_volume, synthetic_pool
from napari_medsam2.training.prompting import corrective_click, first_prompt, interior_point, spoil
from napari_medsam2.training.recipe import Recipe
from napari_medsam2.training.steps import collection_exercise
from napari_medsam2.training.synthetic import synthesize
from napari_medsam2.training.trainer import Trainer, export_weights

if TYPE_CHECKING:
    from pathlib import Path


def _case(folder: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((3, 90, 110), np.uint16)
    for n in range(3):
        for label in range(1, 7):
            cy, cx, r = rng.uniform(10, 80), rng.uniform(10, 100), rng.uniform(6, 12)
            y, x = np.ogrid[:90, :110]
            labels[n][(y - cy) ** 2 + (x - cx) ** 2 < r * r] = label
    image = (30 + 150 * (labels > 0) + rng.normal(0, 6, labels.shape)).clip(0, 255).astype(np.uint8)
    folder.mkdir(parents=True)
    (folder / "case.json").write_text(f'{{"name": "{folder.name}"}}')
    tifffile.imwrite(folder / "image.tif", image, photometric="minisblack")
    tifffile.imwrite(folder / "labels.tif", labels, photometric="minisblack")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[AnnotatedImage], list[Path]]:
    root = tmp_path_factory.mktemp("training")
    _case(root / "data" / "disc-00", 0)
    _case(root / "data" / "disc-01", 1)
    return load_images(root / "data"), synthetic_pool(root / "synthetic", 8, 4, 96, seed=0)


@pytest.fixture
def source(material: tuple[list[AnnotatedImage], list[Path]]) -> ClipSource:
    return ClipSource(*material, side=96, rng=np.random.default_rng(3))


def test_images_are_loaded_with_objects_and_background(material: tuple[list[AnnotatedImage], list[Path]]) -> None:
    images, _ = material
    assert [i.group for i in images] == ["disc"] * 6
    for image in images:
        for label, y0, y1, x0, x1 in image.boxes:
            rows, columns = np.nonzero(image.labels == label)
            assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (y0, y1, x0, x1)
        # Where the discs were, the background is as dark as around them.
        inside = image.labels > 0
        assert image.image[0].numpy()[inside].mean() > 180
        assert image.background[0].numpy()[inside].mean() < 60


def test_a_folder_without_cases_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training case"):
        load_images(tmp_path)


def test_colours_of_every_depth_are_stretched_and_nan_is_passed_over(tmp_path: Path) -> None:
    ramp = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)
    colour = np.stack([ramp, ramp[::-1], ramp.T], -1)
    torn = ramp.copy()
    torn[:, 3] = np.nan
    for number, image in enumerate([(colour * 60_000).astype("uint16"), colour, (colour * 255).astype("uint8"), torn]):
        folder = tmp_path / str(number) / "a-00"
        folder.mkdir(parents=True)
        (folder / "case.json").write_text('{"name": "a-00"}')
        kind: Any = "rgb" if image.ndim == 3 else "minisblack"
        tifffile.imwrite(folder / "image.tif", image[None], photometric=kind)
        tifffile.imwrite(folder / "labels.tif", np.zeros((1, 64, 64), np.uint8))
        (loaded,) = load_images(tmp_path / str(number))
        expected = np.repeat(ramp[..., None], 3, 2) if image is torn else colour
        shown = loaded.image.numpy().transpose(1, 2, 0) / 255
        known = np.isfinite(image) if image.ndim == 3 else np.isfinite(image)[..., None].repeat(3, 2)
        np.testing.assert_allclose(shown[known], expected[known], atol=0.015)


@pytest.mark.parametrize(
    ("image", "labels"), [((3, 8, 8), (2, 8, 8)), ((2, 3, 8, 8), (2, 8, 8)), ((8, 8), (8, 8)), ((2, 9, 8), (2, 8, 8))]
)
def test_images_that_do_not_fit_their_labels_are_named(
    tmp_path: Path, image: tuple[int, ...], labels: tuple[int, ...]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "case.json").write_text('{"name": "a-00"}')
    tifffile.imwrite(tmp_path / "a" / "image.tif", np.zeros(image, np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "a" / "labels.tif", np.zeros(labels, np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match=r"a has images of shape .* both must be"):
        load_images(tmp_path)


def test_weights_of_another_network_are_refused(material: tuple[list[AnnotatedImage], list[Path]]) -> None:
    with pytest.raises(InputError, match="what training was to start from is of another network"):
        Trainer(Recipe(), *material, weights={"vision_encoder.pos_embed": torch.zeros(3)})


def test_an_image_that_is_measured_on_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _case(tmp_path / "disc-00", 0)
    everything = load_images(tmp_path)
    second = tifffile.imread(tmp_path / "disc-00" / "image.tif")[1]
    monkeypatch.setattr("napari_medsam2.training.pool._HELD_OUT", {hashlib.sha256(second.tobytes()).hexdigest()})
    left = load_images(tmp_path)
    assert len(left) == 2
    for image, same in zip(left, (everything[0], everything[2]), strict=True):
        np.testing.assert_array_equal(image.labels, same.labels)


def test_the_development_image_that_is_part_of_a_training_image_is_not_trained_on(
    shared_data: Path, tmp_path: Path
) -> None:
    for number in ("00", "01"):
        (tmp_path / number).symlink_to(shared_data / "train" / f"dsb2018-fluo-520x696-{number}")
    wanted = tifffile.imread(shared_data / "nuclei-2d" / "image.tif").reshape(512, 512)
    raw = tifffile.imread(tmp_path / "01" / "image.tif")
    assert closest(wanted, raw, [0]).correlation > SAME, "the search finds it"
    trained = load_images(tmp_path)
    assert len(trained) == 73
    assert closest(wanted, np.stack([i.image[0].numpy() for i in trained]), [0]).correlation < SAME


@pytest.mark.parametrize("real", [True, False])
def test_single_views_show_whole_objects(source: ClipSource, real: bool) -> None:
    for _ in range(20):
        clip = source.single(3, real)
        assert clip.images.shape == (1, 3, 96, 96)
        assert 1 <= len(clip.masks) <= 3
        assert clip.masks.dtype == torch.bool
        assert clip.masks.flatten(1).any(1).all()
        assert clip.masks.sum(0).max() == 1
        assert 0 <= float(clip.images.min())
        assert float(clip.images.max()) <= 1


def test_a_sunk_stack_shows_objects_shrinking_and_vanishing(source: ClipSource) -> None:
    first, last, vanished = 0, 0, 0
    contrast_there: list[float] = []
    contrast_gone: list[float] = []
    for _ in range(30):
        clip = source.stack(4, 3, real=True)
        assert clip.ordered
        areas = clip.masks.flatten(2).sum(2)
        first += int(areas[:, 0].sum())
        last += int(areas[:, -1].sum())
        vanished += int((areas[:, -1] == 0).sum())
        for k in range(len(clip.masks)):
            core = torch.from_numpy(ndimage.binary_erosion(clip.masks[k, 0].numpy(), iterations=4))
            if not core.any():
                continue
            change = (clip.images[0, 0][core].mean() - clip.images[-1, 0][core].mean()).abs()
            (contrast_gone if areas[k, -1] == 0 else contrast_there).append(float(change))
    assert last < first
    assert vanished > 5
    # An object that the truth says has gone has gone from the picture as well.
    assert np.median(contrast_gone) > 3 * np.median(contrast_there)


@pytest.mark.parametrize("real", [True, False])
def test_some_bodies_are_painted_and_all_of_the_other_images_wanted(
    material: tuple[list[AnnotatedImage], list[Path]], real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fewer = 0
    for seed in range(12):
        whole = ClipSource(*material, side=96, rng=np.random.default_rng(seed)).collection(3, real)
        clip = ClipSource(*material, side=96, rng=np.random.default_rng(seed), some=1.0).collection(3, real)
        assert whole.given is None
        torch.testing.assert_close(clip.images, whole.images, rtol=0, atol=0)
        assert torch.equal(clip.masks, whole.masks), "what is wanted does not depend on what is painted"
        if clip.given is None:
            continue
        assert torch.equal(clip.given[0, 1:], clip.masks[0, 1:]), "of the first image only"
        painted, left = clip.given[0, 0], clip.masks[0, 0] & ~clip.given[0, 0]
        assert painted.any()
        assert not (painted & ~clip.masks[0, 0]).any()
        fewer += bool(left.any())
    assert fewer >= 4

    remembered: list[torch.Tensor] = []
    network = CompactNetwork()

    def remember(features: Any, mask: torch.Tensor) -> torch.Tensor:
        remembered.append(mask)
        return CompactNetwork.remember(network, features, mask)

    monkeypatch.setattr(network, "remember", remember)
    assert clip.given is not None
    collection_exercise(network, [clip], np.random.default_rng(0))
    expected = torch.nn.functional.avg_pool2d(clip.given[:, 0].float().unsqueeze(1), 4)
    torch.testing.assert_close(remembered[0], expected, rtol=0, atol=0)


@pytest.mark.parametrize("real", [True, False])
def test_collections_share_a_class(source: ClipSource, real: bool) -> None:
    clip = source.collection(3, real)
    assert not clip.ordered
    assert clip.images.shape == (3, 3, 96, 96)
    assert clip.masks.shape == (1, 3, 96, 96)
    assert clip.masks.any()


def test_synthetic_volumes_depend_on_the_seed_alone(tmp_path: Path) -> None:
    one, two, other = (synthesize(np.random.default_rng(s), 3, 64) for s in (5, 5, 6))
    torch.testing.assert_close(one.images, two.images)
    assert torch.equal(one.labels, two.labels)
    assert not torch.equal(one.images, other.images)
    paths = synthetic_pool(tmp_path, 2, 3, 64, seed=1)
    times = [p.stat().st_mtime_ns for p in paths]
    assert synthetic_pool(tmp_path, 2, 3, 64, seed=1) == paths
    assert [p.stat().st_mtime_ns for p in paths] == times
    volume = read_volume(paths[0])
    fresh = synthesize(np.random.default_rng([1, 0]), 3, 64)
    torch.testing.assert_close(volume.images, fresh.images, atol=1 / 255, rtol=0)
    assert torch.equal(volume.labels, fresh.labels)


def test_processes_draw_the_same_volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    alone = synthetic_pool(tmp_path / "alone", 3, 2, 64, seed=1, report=lambda *p: told.append(p))
    monkeypatch.setattr(pool, "_WORTH_A_PROCESS", 1)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    together = synthetic_pool(tmp_path / "together", 3, 2, 64, seed=1, report=lambda *p: told.append(p))
    assert [p.name for p in together] == [p.name for p in alone]
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(read_volume(a).images, read_volume(b).images, atol=0, rtol=0)
        assert torch.equal(read_volume(a).labels, read_volume(b).labels)
    assert told == [(1, 3), (2, 3), (3, 3)] * 2


def test_the_share_of_bodies_is_what_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []

    def counted(rng: np.random.Generator, *given: Any) -> Any:
        drawn.append(1)
        return draw_anatomy(rng, *given)

    monkeypatch.setattr("napari_medsam2.training.synthetic.draw_anatomy", counted)
    for bodies, expected in ((0.0, range(1)), (1.0, range(24, 25)), (0.65, range(11, 21))):
        drawn.clear()
        for seed in range(24):
            synthesize(np.random.default_rng(seed), 1, 48, bodies=bodies)
        assert len(drawn) in expected, bodies


def test_objects_of_a_volume_go_on_from_slice_to_slice() -> None:
    for seed in range(6):
        volume = synthesize(np.random.default_rng(seed), 4, 96, step=0.01)
        for label in np.unique(volume.labels[0])[1:]:
            here, there = volume.labels[0] == label, volume.labels[1] == label
            if here.sum() > 300:
                assert (here & there).sum() > 0.5 * here.sum()


def test_bodies_have_objects_of_many_kinds() -> None:
    kinds: set[int] = set()
    for seed in range(6):
        images, labels, classes = draw_anatomy(np.random.default_rng(seed), 4, 112, 0.01)
        again, _, _ = draw_anatomy(np.random.default_rng(seed), 4, 112, 0.01)
        torch.testing.assert_close(images, again)
        assert images.shape == (4, 3, 112, 112)
        assert labels.shape == classes.shape == (4, 112, 112)
        assert 0 <= float(images.min()) < float(images.max()) <= 1
        assert torch.equal(labels > 0, classes > 0)
        assert int(classes.max()) <= 11  # as many as a collection's classes may be
        ids, tissues = labels.numpy(), classes.numpy()
        for label in np.unique(ids)[1:]:
            assert len(np.unique(tissues[ids == label])) == 1
        assert len(np.unique(ids[0])) > 5
        kinds |= set(np.unique(tissues).tolist())
    assert len(kinds) > 6


def test_vertebrae_follow_each_other_along_z() -> None:
    # Over half a body's length, several bones lie in one column with something else between them.
    found = 0
    for seed in range(4):
        _, labels, classes = draw_anatomy(np.random.default_rng(seed), 24, 64, 0.02)
        bones = np.unique(labels[classes == 4].numpy()).tolist()
        spans = [sorted({int(z) for z in (labels == v).nonzero()[:, 0]}) for v in bones]
        ends = [s for s in spans if s and s[-1] < 23 and len(s) > 2]
        found += sum(any(other[0] > s[-1] for other in spans if other) for s in ends)
    assert found


def test_a_body_may_come_up_behind_one_that_has_sunk() -> None:
    images = [_blob_image()]
    source = ClipSource(images, [], side=96, rng=np.random.default_rng(1))
    came = 0
    for _ in range(30):
        clip = source.stack(8, 1, real=True)
        areas = clip.masks[0].flatten(1).sum(1)
        gone = (areas == 0).nonzero()[:, 0]
        if not len(gone):
            continue
        core = torch.from_numpy(ndimage.binary_erosion(clip.masks[0, 0].numpy(), iterations=5))
        if not core.any():
            continue
        values = clip.images[:, 0][:, core].mean(1)
        ground = clip.images[0, 0][clip.masks[0, 0].logical_not()].median()
        # It is there again in the picture, while the truth says that the first one is not.
        later = values[int(gone[0]) + 1 :]
        came += bool(len(later)) and bool((later - ground).abs().max() > 0.5 * (values[0] - ground).abs())
    assert came > 3


def _blob_image() -> AnnotatedImage:
    y, x = np.ogrid[:90, :110]
    labels = ((y - 45) ** 2 + (x - 55) ** 2 < 20**2).astype(np.int32)
    ground = torch.full((3, 90, 110), 30, dtype=torch.uint8)
    image = torch.where(torch.from_numpy(labels > 0), torch.tensor(200, dtype=torch.uint8), ground)
    return AnnotatedImage(image, ground, labels, np.array([[1, 25, 66, 35, 76]]), "blob")


def test_intensities_stay_in_range() -> None:
    rng = np.random.default_rng(0)
    for images in (torch.rand(2, 3, 32, 32), torch.rand(2, 1, 32, 32).expand(-1, 3, -1, -1)):
        for _ in range(40):
            out = jitter_intensity(images, rng)
            assert out.shape == images.shape
            assert torch.isfinite(out).all()
            assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_simulated_clicks_lie_where_they_must() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((60, 70), bool)
    mask[10:30, 20:50] = True
    y, x = interior_point(mask)
    depth = ndimage.distance_transform_edt(mask)
    assert depth[int(y), int(x)] == depth.max()
    for _ in range(20):
        y, x = interior_point(mask, rng)
        assert mask[int(y), int(x)]

    predicted = mask.copy()
    predicted[10:30, 40:50] = False
    click = corrective_click(mask, predicted)
    assert click is not None
    assert click[1] == 1
    assert 10 <= click[0][0] < 30
    assert 40 <= click[0][1] < 50
    predicted = mask.copy()
    predicted[40:58, 30:60] = True
    click = corrective_click(mask, predicted)
    assert click is not None
    assert click[1] == 0
    assert predicted[int(click[0][0]), int(click[0][1])]
    assert not mask[int(click[0][0]), int(click[0][1])]
    assert corrective_click(mask, mask) is None


def test_every_kind_of_first_prompt_occurs_and_fits() -> None:
    rng = np.random.default_rng(0)
    mask = np.zeros((96, 96), bool)
    mask[30:70, 20:60] = True
    kinds = set()
    for _ in range(200):
        prompt = first_prompt(mask, rng)
        kinds.add((prompt.box is not None, len(prompt.points) > 0, prompt.previous is not None))
        if prompt.previous is None:
            for (y, x), label in zip(prompt.points, prompt.labels, strict=True):
                assert mask[int(y), int(x)] == bool(label)
        assert spoil(mask, rng).shape == mask.shape
    assert kinds >= {(True, False, False), (False, True, False), (True, True, False), (False, True, True)}


def test_objects_of_several_bodies_are_asked_for_by_a_box_or_a_mask(
    material: tuple[list[AnnotatedImage], list[Path]],
) -> None:
    source = ClipSource(*material, 96, np.random.default_rng(2), pieces=1.0)
    joined = [clip for clip in (source.single(3, real=False) for _ in range(30)) if clip.pieces]
    parts = [ndimage.label(mask[0])[1] for clip in joined for mask in clip.masks.numpy()]
    apart = [ndimage.label(m[0])[1] for c in (source.single(3, real=True) for _ in range(10)) for m in c.masks.numpy()]
    assert len(joined) > 10
    assert sum(n > 1 for n in parts) > len(joined) / 2
    assert max(apart) == 1
    mask = np.zeros((96, 96), bool)
    mask[10:30, 20:60] = mask[60:80, 20:60] = True
    prompts = [first_prompt(mask, np.random.default_rng(i), pieces=True) for i in range(50)]
    assert all(p.box is not None or p.previous is not None for p in prompts)
    assert not any(p.box is not None and len(p.points) for p in prompts)


def test_soft_iou_against_a_count() -> None:
    logits = torch.full((2, 1, 8, 8), -1.0)
    target = torch.zeros(2, 1, 8, 8)
    logits[0, 0, 2:6, 2:6] = 1
    target[0, 0, 4:8, 2:6] = 1
    iou = soft_iou(logits, target)
    assert iou[0] == pytest.approx(8 / 24)
    assert iou[1] == 1


_TINY = Recipe(steps=6, side=64, final_side=96, singles=2, stacks=1, collections=1, objects=2, warmup=2, bfloat16=False)


def test_a_resumed_run_ends_where_an_unbroken_one_does(
    material: tuple[list[AnnotatedImage], list[Path]], tmp_path: Path
) -> None:
    whole = Trainer(_TINY, *material)
    for _ in range(3):
        whole.advance()
    first = Trainer(_TINY, *material)
    first.advance()
    first.save(tmp_path / "checkpoint.pt")
    second = Trainer(_TINY, *material)
    second.load(tmp_path / "checkpoint.pt")
    losses = [second.advance()[0] for _ in range(2)]
    assert second.step == whole.step == 3
    assert np.isfinite(losses).all()
    for name, value in whole.average.items():
        torch.testing.assert_close(second.average[name], value, atol=1e-5, rtol=1e-4)


def test_a_steady_rate_lets_a_run_be_prolonged_until_it_falls(
    material: tuple[list[AnnotatedImage], list[Path]], tmp_path: Path
) -> None:
    steady = replace(_TINY, steps=8, final_share=0.5)
    first = Trainer(steady, *material)
    for _ in range(2):
        first.advance()
    first.save(tmp_path / "c.pt")
    longer = Trainer(replace(steady, steps=20), *material)
    longer.load(tmp_path / "c.pt")
    assert longer.step == 2
    # With eight steps the last four fall: what was made there is no part of a longer run.
    for _ in range(3):
        first.advance()
    first.save(tmp_path / "c.pt")
    with pytest.raises(InputError, match="another recipe"):
        longer.load(tmp_path / "c.pt")
    with pytest.raises(InputError, match="another recipe"):
        Trainer(replace(steady, steps=20, learning_rate=1e-5), *material).load(tmp_path / "c.pt")


def test_blocks_that_are_left_as_they_are_stay_so_and_the_others_learn(
    material: tuple[list[AnnotatedImage], list[Path]],
) -> None:
    trainer = Trainer(replace(_TINY, frozen=2), *material)
    before = {k: v.clone() for k, v in trainer.network.state_dict().items()}
    trainer.advance()
    same = {k for k, v in trainer.network.state_dict().items() if torch.equal(v, before[k])}
    early = {k for k in before if k.startswith(("encoder.stem", "encoder.blocks.0.", "encoder.blocks.1."))}
    assert early <= same
    weights = {k for k in before if k.startswith("encoder.blocks.3.") and before[k].ndim == 4}
    assert weights
    assert not weights & same


def test_a_later_phase_begins_with_the_earlier_one_s_weights(material: tuple[list[AnnotatedImage], list[Path]]) -> None:
    first = Trainer(_TINY, *material)
    second = Trainer(replace(_TINY, seed=5), *material, weights=first.average)
    for name, value in second.network.state_dict().items():
        torch.testing.assert_close(value.float(), first.average[name])


def test_a_phase_can_give_a_blend_of_its_weights_and_those_it_began_with(
    material: tuple[list[AnnotatedImage], list[Path]], tmp_path: Path
) -> None:
    first = Trainer(_TINY, *material).result()
    whole = Trainer(replace(_TINY, seed=5), *material, weights=first)
    half = Trainer(replace(_TINY, seed=5, blend=0.25), *material, weights=first)
    for trainer in (whole, half):
        trainer.advance()
        trainer.close()
    half.save(tmp_path / "half.pt")
    again = Trainer(replace(_TINY, seed=5, blend=0.25), *material, weights=first)
    again.load(tmp_path / "half.pt")
    moved = 0.0
    for name, after in whole.result().items():
        expected = 0.75 * first[name].double() + 0.25 * after.double()
        torch.testing.assert_close(half.average[name], after, rtol=0, atol=0, msg="the steps are the same")
        torch.testing.assert_close(half.result()[name].double(), expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(again.result()[name], half.result()[name], rtol=0, atol=0)
        moved = max(moved, float((after - first[name]).abs().max()))
    assert moved > 3e-4
    export_weights(half, tmp_path / "half.safetensors")
    written = load_file(tmp_path / "half.safetensors")
    assert all(torch.equal(written[name], half.result()[name].half()) for name in written)
    # And another blend of the same steps is no other training.
    other = Trainer(replace(_TINY, seed=5), *material, weights=first)
    other.load(tmp_path / "half.pt")


def test_the_command_makes_every_phase_with_its_own_volumes_and_starts_from_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _case(tmp_path / "data" / "disc-00", 0)
    phases = (replace(_TINY, steps=1), replace(_TINY, steps=1, seed=1, pool=1, bodies=1.0))
    monkeypatch.setattr(command, "PHASES", phases)
    monkeypatch.setattr(command, "_SLICES", 4)
    monkeypatch.setattr(command, "_SIDE", 96)
    seen: list[list[str]] = []

    def spied(recipe: Recipe, images: Any, volumes: list[Path], *others: Any) -> Trainer:
        seen.append([path.name for path in volumes])
        return Trainer(recipe, images, volumes, *others)

    monkeypatch.setattr(command, "Trainer", spied)
    command.main(tmp_path / "data", tmp_path / "out", volumes=8, every=1)
    assert [len(set(names)) for names in seen] == [8, 8]
    assert not set(seen[0]) & set(seen[1])
    assert {path.name for path in (tmp_path / "out" / "synthetic").iterdir()} == {*seen[0], *seen[1]}
    assert (tmp_path / "out" / "compact.safetensors").exists()

    seen.clear()
    command.main(
        tmp_path / "data", tmp_path / "more", volumes=8, every=1, start=tmp_path / "out" / "compact.safetensors"
    )
    assert len(seen) == 1, "only the last phase"
    seen.clear()
    again: dict[str, Any] = {"volumes": 8, "every": 1, "start": tmp_path / "out" / "compact.safetensors", "phase": 1}
    command.main(tmp_path / "data", tmp_path / "all", **again)
    assert len(seen) == 2, "the phase that was asked for, and those after it"
    with pytest.raises(InputError, match=r"--phase says what the weights of --start go on with"):
        command.main(tmp_path / "data", tmp_path / "none", phase=2)


def test_two_phases_at_once_give_what_one_after_the_other_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is shipped was made phase by phase, each begun with the file that the one before wrote."""
    _case(tmp_path / "data" / "disc-00", 0)
    first, second = replace(_TINY, steps=2), replace(_TINY, steps=2, seed=1)
    monkeypatch.setattr(command, "_SLICES", 4)
    monkeypatch.setattr(command, "_SIDE", 96)

    def made(name: str, phases: tuple[Recipe, ...], **options: Any) -> tuple[Path, dict[str, torch.Tensor]]:
        monkeypatch.setattr(command, "PHASES", phases)
        command.main(tmp_path / "data", tmp_path / name, volumes=4, every=1, **options)
        path = tmp_path / name / "compact.safetensors"
        return path, load_file(path)

    _, at_once = made("both", (first, second))
    path, before = made("first", (first,))
    _, after = made("second", (first, second), start=path, phase=2)
    assert any(not torch.equal(before[name], after[name]) for name in after)
    assert at_once.keys() == after.keys()
    assert [name for name in after if not torch.equal(at_once[name], after[name])] == []


def test_the_command_goes_on_with_the_same_material_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("data", "others"):
        _case(tmp_path / name / "disc-00", len(name))
    monkeypatch.setattr(command, "PHASES", (replace(_TINY, steps=1),))
    monkeypatch.setattr(command, "_SLICES", 4)
    monkeypatch.setattr(command, "_SIDE", 96)
    data, out = tmp_path / "data", tmp_path / "out"
    command.main(data, out, volumes=4, every=1)
    assert "already finished" not in capsys.readouterr().out
    command.main(data, out, volumes=4, every=1)
    assert "already finished" in capsys.readouterr().out
    weights = out / "compact.safetensors"
    with pytest.raises(InputError, match=r"checkpoint-1.pt was trained with other images; give another output folder"):
        command.main(tmp_path / "others", out, volumes=4, every=1)
    with pytest.raises(InputError, match="other synthetic volumes"):
        command.main(data, out, volumes=5, every=1)
    with pytest.raises(InputError, match="other weights to start from"):
        command.main(data, out, volumes=4, every=1, start=weights)
    # A checkpoint of an earlier version, which does not say what it was trained on, is gone on from.
    state = torch.load(out / "checkpoint-1.pt", weights_only=True)
    del state["material"]
    torch.save(state, out / "checkpoint-1.pt")
    monkeypatch.setattr(command, "PHASES", (replace(_TINY, steps=2),))
    command.main(data, out, volumes=4, every=1)
    assert "already finished" not in capsys.readouterr().out
    state = torch.load(out / "checkpoint-1.pt", weights_only=True)
    assert state["step"] == 2


def test_exported_weights_are_loaded_by_the_backend(
    material: tuple[list[AnnotatedImage], list[Path]], tmp_path: Path
) -> None:
    trainer = Trainer(_TINY, *material)
    trainer.advance()
    export_weights(trainer, tmp_path / "w.safetensors")
    backend = load_backend("compact", device="cpu", weights=tmp_path / "w.safetensors")
    image = torch.rand(1, 3, 256, 256)
    network = trainer.network.eval()
    state = {k: v.half().float() for k, v in trainer.average.items()}
    network.load_state_dict(state)
    with torch.no_grad():
        expected = torch.nn.functional.normalize(network.encode(image).key.flatten(1), dim=1)
    torch.testing.assert_close(backend.encode(image).descriptor, expected, atol=1e-4, rtol=1e-3)


def test_checkpoints_of_other_recipes_or_broken_ones_are_refused(
    material: tuple[list[AnnotatedImage], list[Path]], tmp_path: Path
) -> None:
    trainer = Trainer(_TINY, *material)
    trainer.save(tmp_path / "c.pt")
    with pytest.raises(InputError, match="another recipe"):
        Trainer(Recipe(seed=9), *material).load(tmp_path / "c.pt")
    (tmp_path / "c.pt").write_bytes((tmp_path / "c.pt").read_bytes()[:1000])
    with pytest.raises(InputError, match="damaged"):
        trainer.load(tmp_path / "c.pt")


def test_training_learns(material: tuple[list[AnnotatedImage], list[Path]]) -> None:
    """Twenty-five steps from random weights on bright discs: the loss falls clearly."""
    recipe = Recipe(steps=30, side=64, final_share=0, singles=6, stacks=1, collections=1, objects=2, warmup=3, real=1.0)
    trainer = Trainer(recipe, *material)
    losses = [trainer.advance()[0] for _ in range(25)]
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])
