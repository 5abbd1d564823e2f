from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile
from tests.dummy import DummyBackend, squares, stack_of_squares
from tests.saving import annotate, content

from napari_medsam2 import AnnotationSession, ImageStack, InputError, ObjectResult, SliceResult, storage
from napari_medsam2._journal import MAGIC, Blob, JournalFile, Piece, Tail, pack, read_records
from napari_medsam2.memory import BankConfig
from napari_medsam2.state import ObjectInfo
from napari_medsam2.storage import JOURNAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Balls

    from napari_medsam2.backend.protocol import Backend

BOX = (2.5, 2.5, 10.5, 11.5)


def make(folder: Path, finish: bool = True) -> AnnotationSession:
    session = AnnotationSession.create(folder, stack_of_squares(), backend=DummyBackend())
    if finish:
        for _ in annotate(session):
            pass
    return session


def reopen(folder: Path) -> AnnotationSession:
    return AnnotationSession.open(folder, backend=DummyBackend(), stack=stack_of_squares())


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, str]:
    session = make(tmp_path / "s")
    session.close()
    return tmp_path / "s", content(session)


def test_a_session_survives_closing_with_every_bit_and_its_history(saved: tuple[Path, str]) -> None:
    folder, expected = saved
    session = reopen(folder)
    assert content(session) == expected
    assert session.notices == ()
    assert not session.read_only
    while session.can_undo:
        session.undo()
    assert not session.objects
    assert len(session.results) == 0


def test_after_reopening_everything_goes_on_with_the_same_bits(tmp_path: Path) -> None:
    """Seeds, clicks on earlier masks, numbers of steps: nothing depends on the program having run through."""
    through, broken = make(tmp_path / "a", False), make(tmp_path / "b", False)
    walks = [annotate(through), annotate(broken)]
    del walks[1]
    step = annotate(broken)
    for number, _ in enumerate(walks[0]):
        next(step)
        if number == 4:
            break
    broken.close()
    broken = reopen(tmp_path / "b")
    for session in (through, broken):
        for _ in session.propagate():
            pass
        session.add_points(1, 7, [(5, 7)], [1])
        session.undo()
        session.undo()
        session.redo()
        for _ in session.repropagate():
            pass
    assert content(broken) == content(through)


def test_that_clicks_began_on_a_painted_mask_survives(tmp_path: Path) -> None:
    session = make(tmp_path / "s", False)
    painted = np.zeros((24, 24), bool)
    painted[4:11, 5:12] = True
    for label in (session.add_object(), session.add_object()):
        session.add_mask(label, 4, painted)
    session.add_points(1, 4, [(6, 6)], [1])
    session.close()
    again = reopen(tmp_path / "s")
    assert [again.prompts[label, 4].refines for label in (1, 2)] == [True, False]
    again.add_points(1, 4, [(7, 7)], [1])
    again.close()
    assert reopen(tmp_path / "s").prompts[1, 4].refines


@pytest.mark.parametrize("pointers", [True, False])
def test_what_conditions_the_bank_survives(tmp_path: Path, pointers: bool) -> None:
    backend = DummyBackend(pointers=pointers)
    session = AnnotationSession.create(tmp_path / "s", stack_of_squares(), backend=backend)
    session.add_object()
    session.add_box(1, 4, BOX)
    seed = session.plan().seeds[1][4].prediction
    session.close()
    again = reopen(tmp_path / "s").plan().seeds[1][4].prediction
    assert seed is not None
    assert again is not None
    assert again.view == seed.view
    for name in ("logits", "iou", "score", "pointer"):
        one, other = getattr(seed.decoded, name), getattr(again.decoded, name)
        assert (one is None) == (other is None)
        if one is not None:
            assert one.dtype == other.dtype
            assert one.numpy().tobytes() == other.numpy().tobytes()


def test_a_snapshot_replaces_the_journal_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = make(tmp_path / "plain")
    monkeypatch.setattr(storage, "_WORTH", 1000)
    session = make(tmp_path / "s")
    session.close()
    assert content(session) == content(plain)
    head = next(read_records(tmp_path / "s" / JOURNAL, Tail()))[1].head
    assert head["generation"] > 2
    assert content(reopen(tmp_path / "s")) == content(plain)


def test_a_small_history_keeps_the_state_and_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_WORTH", 1000)
    session = AnnotationSession.create(
        tmp_path / "s", stack_of_squares(), backend=DummyBackend(), history_bytes=30_000
    )  # fmt: skip
    for _ in annotate(session):
        pass
    session.close()
    again = AnnotationSession.open(
        tmp_path / "s", backend=DummyBackend(), stack=stack_of_squares(), history_bytes=30_000
    )
    assert content(again) == content(session)
    assert len(again.history) < 14
    known = [r.call["do"] for r in again._document.history.records()]
    assert known == [r.call["do"] for r in session._document.history.records()]
    assert known[:2] == ["object", "box"]


def test_a_session_in_memory_is_saved_and_goes_on_in_its_folder(tmp_path: Path) -> None:
    session = AnnotationSession(stack_of_squares(), backend=DummyBackend())
    for _ in annotate(session):
        pass
    folders = [session.folder]
    session.save_as(tmp_path / "deep" / "s")
    folders.append(session.folder)
    assert folders == [None, tmp_path / "deep" / "s"]
    session.add_object("later")
    session.save_as(tmp_path / "copy")
    session.add_object("latest")
    session.close()
    with pytest.raises(InputError, match="was closed"):
        session.add_object()
    assert content(reopen(tmp_path / "copy")) == content(session)
    assert [o.name for o in reopen(tmp_path / "deep" / "s").objects.values()][-1] == "later"
    with pytest.raises(InputError, match="not an empty folder"):
        AnnotationSession(stack_of_squares(), backend=DummyBackend()).save_as(tmp_path / "copy")


def test_another_model_takes_seeds_over_by_their_masks(tmp_path: Path) -> None:
    session = make(tmp_path / "s", False)
    session.add_object()
    mask = session.add_box(1, 4, BOX).mask
    session.close()
    other = AnnotationSession.open(tmp_path / "s", backend=DummyBackend("other", 12), stack=stack_of_squares())
    assert "the model dummy, not other" in other.notices[0]
    assert len(list(other.propagate())) > 4
    np.testing.assert_array_equal(other.results.get(1, 4).mask, mask)  # type: ignore[union-attr]


# -- the image -------------------------------------------------------------------------------------------------------


def on_disk(tmp_path: Path) -> tuple[Path, AnnotationSession]:
    path = tmp_path / "data" / "image.tif"
    path.parent.mkdir()
    tifffile.imwrite(path, squares(), photometric="minisblack", metadata={"axes": "ZYX"})
    session = AnnotationSession.create(
        tmp_path / "data" / "s", ImageStack.open(path, window=(0, 200)), backend=DummyBackend()
    )
    session.add_object()
    session.add_box(1, 4, BOX)
    session.close()
    return path, session


def test_the_image_is_found_where_it_was(tmp_path: Path) -> None:
    path, session = on_disk(tmp_path)
    again = AnnotationSession.open(tmp_path / "data" / "s", backend=DummyBackend())
    assert content(again) == content(session)
    assert (again.stack.path, again.stack.window) == (path, (0.0, 200.0))
    assert (tmp_path / "data" / "s" / JOURNAL).stat().st_size < 8000


def test_a_moved_image_is_found_beside_its_session_or_where_one_says(tmp_path: Path) -> None:
    on_disk(tmp_path)
    (tmp_path / "data").rename(tmp_path / "moved")
    with AnnotationSession.open(tmp_path / "moved" / "s", backend=DummyBackend()) as again:
        assert again.stack.path == tmp_path / "moved" / "s" / ".." / "image.tif"
    (tmp_path / "moved" / "image.tif").rename(tmp_path / "elsewhere.tif")
    with pytest.raises(InputError, match=r"image\.tif of the session .* is missing; give its new place$"):
        AnnotationSession.open(tmp_path / "moved" / "s", backend=DummyBackend())
    AnnotationSession.open(tmp_path / "moved" / "s", backend=DummyBackend(), image=tmp_path / "elsewhere.tif").close()
    # From now on it is looked for there.
    AnnotationSession.open(tmp_path / "moved" / "s", backend=DummyBackend()).close()


def test_a_changed_image_is_named(tmp_path: Path) -> None:
    path, session = on_disk(tmp_path)
    changed = squares()
    changed[4, 4, 4] += 1
    tifffile.imwrite(path, changed, photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match=r"pixels of the image .*image\.tif have changed"):
        AnnotationSession.open(tmp_path / "data" / "s", backend=DummyBackend())
    with AnnotationSession.open(tmp_path / "data" / "s", backend=DummyBackend(), changed=True) as again:
        assert "have changed" in again.notices[0]
        assert content(again) == content(session)
    AnnotationSession.open(tmp_path / "data" / "s", backend=DummyBackend()).close()
    tifffile.imwrite(path, changed[:5], photometric="minisblack", metadata={"axes": "ZYX"})
    with pytest.raises(InputError, match="is not the session's: that had 10 slices"):
        AnnotationSession.open(tmp_path / "data" / "s", backend=DummyBackend(), changed=True)


def test_a_damaged_slice_does_not_keep_a_session_from_being_saved_or_opened(tmp_path: Path) -> None:
    whole, damaged = tmp_path / "whole.tif", tmp_path / "image.tif"
    tifffile.imwrite(whole, squares(), photometric="minisblack", compression="zlib", metadata={"axes": "ZYX"})
    with tifffile.TiffFile(whole) as file:
        page = file.pages[7]
        place, size = page.dataoffsets[0], page.databytecounts[0]
    data = bytearray(whole.read_bytes())
    data[place : place + size] = bytes(size)
    damaged.write_bytes(data)
    stack = ImageStack.open(damaged)
    with pytest.raises(InputError, match="cannot read slice 7"):
        stack.raw(7)
    with AnnotationSession.create(tmp_path / "s", stack, backend=DummyBackend()) as session:
        session.add_box(session.add_object(), 2, BOX)
        drawn = session.slice_labels(2)
    assert drawn.any()
    with AnnotationSession.open(tmp_path / "s", backend=DummyBackend()) as again:
        assert np.array_equal(again.slice_labels(2), drawn)
    # Mended or damaged: both are changes, that can be accepted.
    shutil.copy(whole, damaged)
    with pytest.raises(InputError, match=r"have changed since the session was saved; give"):
        AnnotationSession.open(tmp_path / "s", backend=DummyBackend())
    AnnotationSession.open(tmp_path / "s", backend=DummyBackend(), changed=True).close()
    damaged.write_bytes(data)
    with pytest.raises(InputError, match=r"have changed since the session was saved, 1 slice cannot be read; give"):
        AnnotationSession.open(tmp_path / "s", backend=DummyBackend())
    with AnnotationSession.open(tmp_path / "s", backend=DummyBackend(), changed=True) as again:
        assert np.array_equal(again.slice_labels(2), drawn)


def test_an_array_must_be_given_again(saved: tuple[Path, str]) -> None:
    with pytest.raises(InputError, match=r"array in memory, of 10 slices of .24, 24. uint8; give it again$"):
        AnnotationSession.open(saved[0], backend=DummyBackend())
    other = ImageStack(squares() + 1, "ZYX", window=(0, 255))
    with pytest.raises(InputError, match="pixels of the image stack have changed"):
        AnnotationSession.open(saved[0], backend=DummyBackend(), stack=other)


def test_an_embedded_image_travels_with_the_session(tmp_path: Path) -> None:
    image = np.stack([squares(), squares()[::-1]])
    stack = ImageStack(image, "TZYX", spacing={"z": 2.0, "y": 0.5, "x": 0.5, "unit": "um"})
    session = AnnotationSession.create(tmp_path / "s", stack, backend=DummyBackend(), embed=True)
    session.add_object()
    session.add_box(1, 4, BOX)
    session.close()
    shutil.move(tmp_path / "s", tmp_path / "t")
    again = AnnotationSession.open(tmp_path / "t", backend=DummyBackend())
    assert content(again) == content(session)
    assert again.stack.spacing == stack.spacing
    np.testing.assert_array_equal(again.stack.raw(13), image[1, 3])
    assert list(again.propagate())


def test_an_embedded_collection_of_different_sizes_travels(tmp_path: Path) -> None:
    items = [squares()[0], squares()[1][:20], np.repeat(squares()[2][..., None], 3, 2)]
    stack = ImageStack(items, names=["a.png", "b.png", "c.png"])
    session = AnnotationSession.create(tmp_path / "s", stack, backend=DummyBackend(), embed=True)
    session.add_object()
    session.add_box(1, 1, BOX)
    session.close()
    again = AnnotationSession.open(tmp_path / "s", backend=DummyBackend())
    assert content(again) == content(session)
    assert again.stack.names == ("a.png", "b.png", "c.png")
    assert again.kind == "collection"


def test_a_folder_of_pictures_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for i in (1, 2, 10):
        tifffile.imwrite(tmp_path / "p" / f"{i}.tif", squares()[i % 10], photometric="minisblack")
    for number, axes in enumerate((None, "ZYX")):
        stack = ImageStack.open(tmp_path / "p", axes=axes)
        session = AnnotationSession.create(tmp_path / f"s{number}", stack, backend=DummyBackend())
        session.add_object()
        session.close()
        again = AnnotationSession.open(tmp_path / f"s{number}", backend=DummyBackend())
        assert (again.stack.axes, again.kind) == (stack.axes, session.kind)


@pytest.mark.parametrize("pattern", ["p1/?.tif", "p1/[123].tif", "p*/2.tif", "p1/*.tif", "**/*.tif"])
def test_a_pattern_of_pictures_is_found_again_wherever_it_is(tmp_path: Path, pattern: str) -> None:
    for folder in ("p1", "p2"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for i in (1, 2, 3):
            tifffile.imwrite(tmp_path / "data" / folder / f"{i}.tif", squares()[i], photometric="minisblack")
    stack = ImageStack.open(tmp_path / "data" / pattern)
    assert len(stack) > 1
    AnnotationSession.create(tmp_path / "data" / "s", stack, backend=DummyBackend()).close()
    for place in ("data", "moved"):
        if place == "moved":
            (tmp_path / "data").rename(tmp_path / place)
        with AnnotationSession.open(tmp_path / place / "s", backend=DummyBackend()) as again:
            assert again.stack.names == stack.names
    (tmp_path / "alone" / "far").mkdir(parents=True)
    (tmp_path / "moved" / "s").rename(tmp_path / "alone" / "far" / "s")
    with pytest.raises(InputError, match="is missing; give its new place"):
        AnnotationSession.open(tmp_path / "alone" / "far" / "s", backend=DummyBackend())


# -- damage ----------------------------------------------------------------------------------------------------------


def test_a_torn_last_record_is_dropped_with_one_line_and_set_aside(saved: tuple[Path, str]) -> None:
    folder, _ = saved
    path = folder / JOURNAL
    whole = path.read_bytes()
    ends = [len(MAGIC)]
    tail = Tail()
    for number, piece in read_records(path, tail):
        ends.append(ends[-1] + len(pack(piece, number)))
    assert ends[-1] == len(whole)
    for cut in (1, 19, 20, 23, ends[-1] - ends[-2] - 1):
        path.write_bytes(whole[: ends[-2] + cut])
        session = reopen(folder)
        assert len(session.notices) == 1
        assert "never finished and was dropped" in session.notices[0]
        assert "\n" not in session.notices[0]
        session.close()
        assert path.stat().st_size == ends[-2]
    path.write_bytes(whole[: ends[-2] + 30])
    session = reopen(folder)
    session.add_object("after")
    session.close()
    assert [o.name for o in reopen(folder).objects.values()][-1] == "after"
    aside = next(folder.glob("dropped-*.bin"))
    assert whole[ends[-2] :].startswith(aside.read_bytes())
    path.write_bytes(whole + bytes(4096))
    assert "dropped" in reopen(folder).notices[0]


def test_every_flipped_byte_is_found_and_nothing_is_overwritten(saved: tuple[Path, str]) -> None:
    folder, expected = saved
    path = folder / JOURNAL
    whole = path.read_bytes()
    records = list(read_records(path, Tail()))
    last = len(whole) - len(pack(records[-1][1], records[-1][0]))
    rng = np.random.default_rng(1)
    for at in [*range(0, 60), *rng.integers(60, last, 300).tolist()]:
        data = bytearray(whole)
        data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"record \d+ of .* is damaged; nothing was changed|not a session|newer"):
            reopen(folder)
        assert path.read_bytes() == bytes(data)
    for at in rng.integers(last, len(whole), 40).tolist():
        data = bytearray(whole)
        data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        with reopen(folder) as session:
            assert "dropped" in session.notices[0]
            assert len(session.history) >= 12
    path.write_bytes(whole)
    assert content(reopen(folder)) == expected


def test_a_journal_cut_off_in_its_snapshot_is_refused(saved: tuple[Path, str]) -> None:
    folder, _ = saved
    path = folder / JOURNAL
    whole = path.read_bytes()
    for cut in (0, 10, len(MAGIC), len(MAGIC) + 30, 400):
        path.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=r"cut off|not a session"):
            reopen(folder)
        assert path.read_bytes() == whole[:cut]


def test_what_is_no_session_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        reopen(tmp_path / "none")
    with pytest.raises(InputError, match="no session in"):
        reopen(tmp_path)
    (tmp_path / JOURNAL).write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="not a session file"):
        reopen(tmp_path)
    (tmp_path / JOURNAL).write_bytes(MAGIC.replace(b"1\n", b"2\n"))
    with pytest.raises(InputError, match="newer version"):
        reopen(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda bank: bank.pop("trust"), ""),
        (lambda bank: bank.update(threshold=0.6), ""),
        (lambda bank: bank.pop("threshold"), "its settings are incomplete"),
        (lambda bank: bank.update(threshold="0.6"), "its threshold is '0.6'"),
        (lambda bank: bank.update(trust=[1]), r"its trust is \[1\]"),
        (lambda bank: bank.update(trust=7), "above 0 and up to 1, not 7"),
        (lambda bank: bank.update(policy=None), "its policy is None"),
    ],
)
def test_a_banks_settings_are_read_as_data(saved: tuple[Path, str], change: Callable[[Any], Any], words: str) -> None:
    """The first two are what earlier versions wrote."""
    folder, expected = saved
    path = folder / JOURNAL
    records = [piece for _, piece in read_records(path, Tail())]
    change(records[0].head["bank"])
    path.write_bytes(MAGIC + b"".join(pack(piece, number) for number, piece in enumerate(records)))
    if words:
        with pytest.raises(InputError, match=words):
            reopen(folder)
    else:
        session = reopen(folder)
        assert content(session) == expected
        session.close()


def forge(folder: Path, change: dict[str, object], blobs: tuple[Blob, ...] = ()) -> None:
    """Append a well-formed record of ill content."""
    tail = Tail()
    for _ in read_records(folder / JOURNAL, tail):
        pass
    file = JournalFile(folder / JOURNAL, tail)
    file.append([Piece({"op": "do", "step": 99, "name": "x", "call": {"do": "edit"}, **change}, blobs)])
    file.close()


LOGITS = Blob(zlib.compress(bytes(4)), 4, "zlib")
RESULT = {"k": "result", "l": 1, "i": 0, "at": [0, 0, 2, 2], "confidence": 0.5, "score": 0.5, "source": "prompt"}
BOMB = Blob(zlib.compress(bytes(50_000_000), 9), 4, "zlib")


@pytest.mark.parametrize(
    ("change", "blobs"),
    [
        ({"op": "format c:"}, ()),
        ({"step": -1}, ()),
        ({"step": 1.5}, ()),
        ({"name": 3}, ()),
        ({"call": []}, ()),
        ({"entries": 3}, ()),
        ({"entries": [3]}, ()),
        ({"entries": [{"k": "spell", "l": 1, "i": 0}]}, ()),
        ({"entries": [{"k": "mark", "l": 0, "i": 0, "is": "accepted"}]}, ()),
        ({"entries": [{"k": "mark", "l": True, "i": 0, "is": "accepted"}]}, ()),
        ({"entries": [{"k": "mark", "l": 1, "i": 10, "is": "accepted"}]}, ()),
        ({"entries": [{"k": "mark", "l": 1, "i": -1, "is": "accepted"}]}, ()),
        ({"entries": [{"k": "mark", "l": 1, "i": 0, "is": "adored"}]}, ()),
        ({"entries": [{"k": "mark", "l": 77, "i": 0, "is": "accepted"}]}, ()),
        ({"entries": [{"k": "object", "l": 1, "i": -1, "gone": True}]}, ()),
        ({"entries": [{"k": "object", "l": 5, "i": -1, "name": "x", "color": "red"}]}, ()),
        ({"entries": [{"k": "prompt", "l": 1, "i": 0, "corrects": False}]}, ()),
        ({"entries": [{"k": "prompt", "l": 1, "i": 0, "corrects": False, "points": [[999, 0]], "labels": [1]}]}, ()),
        ({"entries": [{"k": "prompt", "l": 1, "i": 0, "corrects": False, "box": [0, 0, "a", 1]}]}, ()),
        ({"entries": [{"k": "prompt", "l": 1, "i": 0, "corrects": False, "mask": 0}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 1}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0, "at": [23, 0, 2, 2]}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0, "at": [-1, 0, 2, 2]}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0, "at": [0, 0, 3, 3]}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0, "confidence": 1.5}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0, "disagreement": 2}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0, "read": [[2**32, 1.0, "prompt", 1.0]]}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0, "source": "oracle"}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0, "view": [0, 0, 0, 4, 4]}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0}, RESULT | {"logits": 0}]}, (LOGITS,)),
        ({"entries": [RESULT | {"logits": 0}]}, (BOMB,)),
        ({"entries": [RESULT | {"logits": 0}]}, (Blob(b"junk", 4, "zlib"),)),
        ({"entries": [RESULT | {"logits": 0}]}, (Blob(b"junk", 4, "raw"),)),
    ],
)
def test_ill_content_is_refused_however_well_it_is_wrapped(
    saved: tuple[Path, str], change: dict[str, object], blobs: tuple[Blob, ...]
) -> None:
    forge(saved[0], change, blobs)
    before = (saved[0] / JOURNAL).read_bytes()
    with pytest.raises(InputError, match=r"record \d+ of .* cannot be read") as caught:
        reopen(saved[0])
    assert "\n" not in str(caught.value)
    assert (saved[0] / JOURNAL).read_bytes() == before


MASK = ObjectResult.from_mask(1, 4, squares()[4] > 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.add_object(7), "name of object 2 must be text, not 7"),
        (lambda s: s.add_object("b", color="red"), "a colour must be"),
        (lambda s: s.edit("x", objects=[ObjectInfo(2, "b", "red")]), "a colour must be .* not 'red'"),
        (lambda s: s.edit("x", objects=[ObjectInfo(0, "b")]), "a label must be a whole number from 1"),
        (lambda s: s.edit("x", objects=[ObjectInfo(2**31, "b")]), "a label must be a whole number from 1"),
        (lambda s: s.edit("x", objects=[ObjectInfo(2, 5)]), "name of object 2 must be text, not 5"),  # type: ignore[arg-type]
        (lambda s: s.edit(3, [MASK]), "name of a step must be text, not 3"),
        (lambda s: s.edit("x", [replace(MASK, confidence=87.0)]), "object 1 on slice 4 has the confidence 87"),
        (lambda s: s.edit("x", [replace(MASK, confidence=np.nan)]), "confidence nan"),
        (lambda s: s.edit("x", [replace(MASK, object_score=-1.0)]), "object score -1"),
        (lambda s: s.edit("x", [replace(MASK, disagreement=2.0)]), "disagreement 2"),
        (lambda s: s.edit("x", [replace(MASK, source="manual")]), "unknown source 'manual'"),  # type: ignore[arg-type]
        (lambda s: s.edit("x", [replace(MASK, top=-2)]), "reaches over the slice"),
        (lambda s: s.edit("x", [replace(MASK, left=20)]), "reaches over the slice"),
        (lambda s: s.edit("x", [replace(MASK, top=1.5)]), "reaches over the slice"),  # type: ignore[arg-type]
        (lambda s: s.edit("x", [replace(MASK, index=4.5)]), "slice 4.5 .* does not fit the stack"),  # type: ignore[arg-type]
        (lambda s: s.edit("x", [replace(MASK, logits=MASK.logits / 8)]), "int8, not float64"),
        (lambda s: s.apply(SliceResult(4, (replace(MASK, shape=(99, 99), top=80),))), "does not fit the stack"),
        (lambda s: s.apply(SliceResult(4, (replace(MASK, source="manual"),))), "unknown source"),  # type: ignore[arg-type]
        (lambda s: s.edit("x", objects=[ObjectInfo(2, "b", "#FF8000")]), None),
        (lambda s: s.edit("x", [replace(MASK, top=np.int64(0))]), None),  # type: ignore[arg-type]
    ],
)
def test_no_call_writes_what_cannot_be_read_again(
    tmp_path: Path, call: Callable[[AnnotationSession], object], message: str | None
) -> None:
    session = make(tmp_path / "s", False)
    session.add_object()
    before = content(session)
    if message is None:
        call(session)
        assert content(session) != before
    else:
        with pytest.raises(InputError, match=message) as caught:
            call(session)
        assert "\n" not in str(caught.value)
        assert content(session) == before
    session.add_box(1, 3, BOX)
    session.close()
    assert content(reopen(tmp_path / "s")) == content(session)


def test_numpys_numbers_are_as_good_as_pythons(tmp_path: Path) -> None:
    """What JSON does not write: an index from `argmax`, a label from `unique`, a bank's size from an array."""
    bank = BankConfig("released", np.int64(4), tolerance=np.float32(0.25), draws=np.bool_(False), seed=np.uint8(3))  # type: ignore[arg-type]
    session = AnnotationSession.create(tmp_path / "s", stack_of_squares(), backend=DummyBackend(), memory=bank)
    one = np.int64(1)
    session.edit("a", [replace(MASK, label=one, index=one)], objects=[ObjectInfo(one, "a")])  # type: ignore[arg-type]
    session.add_box(one, np.int64(4), np.array(BOX))  # type: ignore[arg-type]
    found = list(
        session.propagate(
            np.array([1]),  # type: ignore[arg-type]
            start=np.argmax([0, 1]),  # type: ignore[arg-type]
            stop=np.uint8(8),  # type: ignore[arg-type]
            patience=np.int32(2),  # type: ignore[arg-type]
            part=np.bool_(True),  # type: ignore[arg-type]
        )
    )
    assert {one.index for one in found} == {1, 2, 3, 5, 6, 7}
    session.edit("b", [replace(MASK, label=one, index=np.int64(6))])  # type: ignore[arg-type]
    session.clear_prompts(one, np.int64(4))  # type: ignore[arg-type]
    session.add_box(one, np.int64(5), np.array(BOX))  # type: ignore[arg-type]
    again = session.repropagate(np.array([1, 1]), np.float32(0.5), np.int64(1), np.int64(3), np.bool_(False))  # type: ignore[arg-type]
    assert len(list(again)) > 2
    session.configure(BankConfig(size=np.int64(5)))  # type: ignore[arg-type]
    session.close()
    back = reopen(tmp_path / "s")
    assert content(back) == content(session)
    assert back.bank == BankConfig(size=5)
    with pytest.raises(InputError, match=r"start must be a whole number, not 1\.0"):
        back.propagate(start=1.0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"settle must be a whole number, not 1\.5"):
        back.repropagate(settle=1.5)  # type: ignore[arg-type]


def test_a_record_is_what_the_format_says(tmp_path: Path) -> None:
    """By hand, from docs/session-format.md."""
    session = make(tmp_path / "s", False)
    session.add_object("cell", label=3)
    session.close()
    data = (tmp_path / "s" / JOURNAL).read_bytes()
    assert data.startswith(b"napari-medsam2 session 1\n")
    at = 25
    heads: list[dict[str, object]] = []
    while at < len(data):
        mark, number, length, check = struct.unpack_from("<4sIII", data, at)
        assert (mark, number) == (b"MS2R", len(heads))
        assert struct.unpack_from("<I", data, at + 16)[0] == zlib.crc32(data[at : at + 16])
        payload = data[at + 20 : at + 20 + length]
        assert zlib.crc32(payload) == check
        (size,) = struct.unpack_from("<I", payload)
        heads.append(json.loads(payload[4 : 4 + size]))
        at += 20 + length
    assert [h["op"] for h in heads] == ["session", "ready", "do"]
    assert heads[2]["entries"] == [{"k": "object", "l": 3, "i": -1, "name": "cell"}]


# -- disks that fail -------------------------------------------------------------------------------------------------


def test_a_full_disk_undoes_the_command_and_keeps_all_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = make(tmp_path / "s", False)
    session.add_object()
    session.add_box(1, 4, BOX)
    before, size = content(session), (tmp_path / "s" / JOURNAL).stat().st_size
    write, room = os.write, [100]

    def full(handle: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(28, "No space left on device")
        part = min(len(data), room[0])
        room[0] -= part
        return write(handle, data[:part])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(InputError, match="No space left on device; the last step was not done, all before it is safe"):
        session.add_box(1, 6, BOX)
    with pytest.raises(InputError, match="No space"):
        session.undo()
    assert content(session) == before
    assert (tmp_path / "s" / JOURNAL).stat().st_size == size
    monkeypatch.setattr(os, "write", write)
    session.add_box(1, 6, BOX)
    session.close()
    assert content(reopen(tmp_path / "s")) == content(session)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs a file system of its own")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", disk], check=False).returncode:
        pytest.skip("may not mount")
    try:
        session = make(disk / "s", False)
        session.add_object()
        with pytest.raises(InputError, match="No space left"):
            for index in [*range(10)] * 50:
                session.add_box(1, index, BOX)
        with pytest.raises(InputError, match="No space left"):
            session.save_as(disk / "t")
        done = content(session)
        session.close()
        with reopen(disk / "s") as again:
            assert content(again) == done
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_full_disk_at_a_snapshot_keeps_the_old_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = make(tmp_path / "s", False)
    monkeypatch.setattr(storage, "_WORTH", 1000)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for _ in annotate(session):
        pass
    session.close()
    assert any("No space left" in notice for notice in session.notices)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [JOURNAL, "session.lock"]
    assert content(reopen(tmp_path / "s")) == content(session)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="needs a file system of its own")
def test_a_read_only_folder_is_opened_for_looking(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", disk], check=False).returncode:
        pytest.skip("may not mount")
    try:
        made = make(disk / "s")
        made.close()
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        with reopen(disk / "s") as session:
            assert session.read_only
            assert "opened read-only, since its folder cannot be written" in session.notices[0]
            assert content(session) == content(made)
            with pytest.raises(InputError, match="is open read-only"):
                session.add_object()
            with pytest.raises(InputError, match="is open read-only"):
                session.propagate()
            with pytest.raises(InputError, match="cannot make the session"):
                session.save_as(disk / "t")
            assert content(session) == content(made)
            session.save_as(tmp_path / "t")
            session.add_object()
            session.close()
    finally:
        subprocess.run(["umount", disk], check=True)


# -- two at once -----------------------------------------------------------------------------------------------------

_HOLDER = """
import sys
from pathlib import Path
from tests.dummy import DummyBackend, stack_of_squares
from napari_medsam2 import AnnotationSession
session = AnnotationSession.open(sys.argv[1], backend=DummyBackend(), stack=stack_of_squares())
print(session.read_only, flush=True)
sys.stdin.read()
"""


def test_the_second_process_is_told_and_reads_only(saved: tuple[Path, str]) -> None:
    folder, expected = saved
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "False\n"
        session = reopen(folder)
        assert session.read_only
        assert f"read-only, since process {holder.pid} has it open" in session.notices[0]
        assert content(session) == expected
        with pytest.raises(InputError, match="open read-only"):
            session.add_object()
        with pytest.raises(InputError, match="open read-only"):
            session.undo()
        session.save_as(folder.parent / "mine")
        session.add_object()
        session.close()
        holder.kill()
    with reopen(folder) as session:
        # Whoever held it is gone, however it went.
        assert not session.read_only
        session.add_object()


def test_the_same_process_cannot_open_it_twice_for_writing(saved: tuple[Path, str]) -> None:
    with reopen(saved[0]) as one, reopen(saved[0]) as two:
        assert (one.read_only, two.read_only) == (False, True)
    with reopen(saved[0]) as one:
        assert not one.read_only


def test_a_click_is_on_the_disk_within_milliseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal's share of a click, at the size of the embedded model's logits; generous for busy machines."""
    session = make(tmp_path / "s", False)
    session.add_object()
    spent = []
    append = session._document._save

    def timed(piece: Piece | None) -> None:
        began = time.perf_counter()
        append(piece)
        spent.append(time.perf_counter() - began)

    monkeypatch.setattr(session._document, "_save", timed)
    for index in [*range(10)] * 5:
        session.add_points(1, index, [(6, 6)], [1])
    assert float(np.median(spent)) < 0.05


@pytest.mark.parametrize("how", ["box", "click", "mask"])
def test_the_embedded_model_goes_on_after_reopening_with_the_same_bits(
    tmp_path: Path, backend: Backend, balls: Balls, how: str
) -> None:
    """A propagation that follows, whatever embeddings had been kept before."""
    stack = ImageStack(balls.image[8:16], "ZYX")
    one = AnnotationSession.create(tmp_path / "s", stack, backend=backend)
    one.add_object()
    if how == "box":
        one.add_box(1, 4, balls.box(1, 12))
    elif how == "click":
        one.add_points(1, 4, [(30, 32)], [1])
    else:
        one.add_mask(1, 4, balls.labels[12] == 1)
    one.close()
    one.save_as(tmp_path / "t")
    other = AnnotationSession.open(tmp_path / "s", backend=backend, stack=stack)
    for session in (one, other):
        for _ in session.propagate():
            pass
    assert len(one.results) > 4
    assert content(other) == content(one)
