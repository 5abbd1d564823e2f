"""Clicks and boxes that the model had not answered when the window closed: asked when the session is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medsam2.errors import InputError
from napari_medsam2.prompts import parse_entry
from napari_medsam2.widgets.views_file import read_view, write_view
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from napari_medsam2.widgets.annotation import Annotation

__all__ = ["ask_again", "note_down"]

_KEY = "unanswered"


def note_down(annotation: Annotation) -> None:
    """Write what still waits for the model beside the session: the window does not stay for the answer.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    session, entries = annotation.session, annotation.prompting.entries()
    if entries and session.folder is not None and not session.read_only:
        write_view(session.folder, read_view(session.folder) | {_KEY: entries})


def ask_again(annotation: Annotation) -> None:
    """Ask what `note_down` wrote, once; of objects that are gone, and what makes no sense, nothing.

    Raises
    ------
    InputError
        If the folder cannot be written: then nothing is asked, as it would be again the next time.
    """
    session, folder = annotation.session, annotation.session.folder
    if folder is None or session.read_only:
        return
    view = read_view(folder)
    entries = view.pop(_KEY, None)
    if entries is None:
        return
    write_view(folder, view)
    count = 0
    for entry in entries if isinstance(entries, list) else ():
        try:
            said = parse_entry(entry, "", session.stack)
        except InputError:
            continue
        content = said.content
        if said.label not in session.objects or content.painted is not None:
            continue
        if content.box is not None:
            annotation.prompting.box(said.label, said.index, content.box)
        if len(content.points):
            places = [(float(y), float(x)) for y, x in content.points]
            annotation.prompting.points(said.label, said.index, places, content.labels.tolist())
        count += 1
    if count:
        annotation.say(f"{counted(count, 'prompt')} that had not been answered: asked again")
