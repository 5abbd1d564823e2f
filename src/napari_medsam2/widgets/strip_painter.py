"""How the review strip is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from qtpy.QtCore import QRect, QRectF, Qt
from qtpy.QtGui import QColor, QImage, QPen

from napari_medsam2.widgets.rows.strip import Mark, StripAxis
from napari_medsam2.widgets.rows.zoom import Zoom, bars, lane, ticks
from napari_medsam2.widgets.theme import glyph, mix, ramp, shades, swatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qtpy.QtGui import QFontMetrics, QPainter
    from qtpy.QtWidgets import QWidget

    from napari_medsam2.widgets.rows.strip import StripRow
    from napari_medsam2.widgets.theme import Shades

__all__ = ["GLYPHS", "Scene", "StripPainter"]

GLYPHS = (
    (Mark.PROMPTED, "triangle", "text"),
    (Mark.CORRECTED, "diamond", "note"),
    (Mark.EDITED, "diamond", "faint"),
    (Mark.SKIPPED, "ring", "faint"),
    (Mark.REJECTED, "cross", "bad"),
)
"""What stands above a bar, the most important last: flag, icon, and colour of `Shades`."""

_ROOMY = 18
"""Rows of so many pixels have icons for marks; lower ones have ticks."""


@dataclass(slots=True, eq=False)
class Scene:
    """What the strip shows at present, and how it is laid out."""

    rows: tuple[StripRow, ...] = ()
    axis: StripAxis = field(default_factory=lambda: StripAxis(0))
    zoom: Zoom = field(default_factory=lambda: Zoom.all_of(0))
    label: int | None = None
    index: int | None = None
    bank: Mapping[int, frozenset[int]] = field(default_factory=dict)
    names: int = 0
    row_height: int = 20

    def row_of(self, label: int | None) -> int | None:
        """Return the place of an object's row."""
        return next((i for i, row in enumerate(self.rows) if row.label == label), None)


@dataclass(frozen=True, slots=True, eq=False)
class _Pictures:
    """The pixels of bars and marks at one zoom, a line for each row from ``start`` on."""

    start: int
    bars: QImage
    absent: QImage
    accepted: QImage
    ticks: QImage
    keep: tuple[bytes, ...]


class StripPainter:
    """Draws a `Scene`; pixels are kept until rows, zoom, width or theme change."""

    def __init__(self) -> None:
        self._key: object = None
        self._pictures: _Pictures | None = None

    def forget(self) -> None:
        """Draw the pixels anew next time."""
        self._key = None

    def paint(
        self, painter: QPainter, widget: QWidget, scene: Scene, area: QRect, ruler: int, scrolled: int,
        selection: QRectF | None = None,
    ) -> None:  # fmt: skip
        """Draw all that lies in ``area``.

        Parameters
        ----------
        painter : QPainter
            Where to.
        widget : QWidget
            Whose palette and font.
        scene : Scene
            What.
        area : QRect
            The viewport.
        ruler : int
            Pixels of the ruler's height.
        scrolled : int
            Pixels that the rows are scrolled by.
        selection : QRectF, optional
            A range that is being chosen.
        """
        tint = shades(widget)
        painter.setFont(widget.font())
        if not scene.rows or not scene.axis.count:
            painter.setPen(tint.faint)
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, "No objects yet")
            return
        left, pixels = scene.names, max(area.width() - scene.names, 1)
        self._backdrop(painter, scene, area, ruler, scrolled, tint)
        painter.save()
        painter.setClipRect(QRect(0, ruler, area.width(), area.height() - ruler))
        first = max(scrolled // scene.row_height, 0)
        last = min((scrolled + area.height() - ruler) // scene.row_height + 1, len(scene.rows))
        pictures = self._pixels(scene, first, last, pixels, tint)
        for number in range(first, last):
            top = ruler + number * scene.row_height - scrolled
            self._name(painter, widget, scene, scene.rows[number], QRect(0, top, left, scene.row_height), tint)
            self._row(painter, scene, number, QRect(left, top, pixels, scene.row_height), pictures, tint)
        painter.restore()
        self._scale(painter, widget, scene, area, ruler, tint)
        if selection is not None:
            colour = QColor(tint.accent)
            colour.setAlpha(70)
            painter.fillRect(selection, colour)

    # -- pixels ----------------------------------------------------------------------------------------------------

    def _pixels(self, scene: Scene, start: int, stop: int, pixels: int, tint: Shades) -> _Pictures:
        key = (scene.zoom, start, stop, pixels, tint.back.name(), tint.text.name())
        if self._pictures is not None and key == self._key:
            return self._pictures
        confidence = np.stack([row.confidence for row in scene.rows[start:stop]])
        marks = np.stack([row.marks for row in scene.rows[start:stop]])
        absent = (marks & np.uint8(Mark.ABSENT)) > 0
        zoom, colours = scene.zoom, ramp(tint.dark)
        there = bars(np.where(absent, np.nan, confidence), zoom, pixels, colours, tint.empty.rgba())
        gone = bars(np.where(absent, confidence, np.nan), zoom, pixels, colours, 0)
        seen = lane(marks, zoom, pixels)
        accepted = np.where(seen & np.uint8(Mark.ACCEPTED), np.uint32(tint.good.rgba()), np.uint32(0))
        small = ticks(marks, zoom, pixels)
        lines = np.zeros(small.shape, np.uint32)
        for flag, _, colour in GLYPHS:
            chosen: QColor = getattr(tint, colour)
            lines = np.where(small & np.uint8(flag), np.uint32(chosen.rgba()), lines)
        images, kept = [], []
        for array in (there, gone, accepted, lines):
            data = np.ascontiguousarray(array, np.uint32).tobytes()
            height, width = array.shape
            images.append(QImage(data, width, height, width * 4, QImage.Format.Format_ARGB32))
            kept.append(data)
        # QImage does not copy: the bytes have to live as long.
        self._pictures, self._key = _Pictures(start, images[0], images[1], images[2], images[3], tuple(kept)), key
        return self._pictures

    # -- parts -----------------------------------------------------------------------------------------------------

    def _backdrop(self, painter: QPainter, scene: Scene, area: QRect, ruler: int, scrolled: int, tint: Shades) -> None:
        row = scene.row_of(scene.label)
        if row is not None:
            top = ruler + row * scene.row_height - scrolled
            band = QRect(0, max(top, ruler), area.width(), scene.row_height - max(ruler - top, 0))
            if band.height() > 0:
                painter.fillRect(band, mix(tint.back, tint.text, 0.10))
                painter.fillRect(QRect(0, band.top(), 3, band.height()), tint.accent)

    def _name(self, painter: QPainter, widget: QWidget, scene: Scene, row: StripRow, box: QRect, tint: Shades) -> None:
        size = min(12, box.height() - 3)
        painter.drawPixmap(box.left() + 6, box.top() + (box.height() - size) // 2, swatch(row.color, size))
        text = widget.fontMetrics().elidedText(row.name, Qt.TextElideMode.ElideMiddle, box.width() - 28)
        painter.setPen(tint.text if row.label == scene.label else tint.faint)
        painter.drawText(box.adjusted(22, 0, -4, 0), Qt.AlignmentFlag.AlignVCenter.value, text)

    def _row(self, painter: QPainter, scene: Scene, number: int, box: QRect, pictures: _Pictures, tint: Shades) -> None:
        row, zoom = scene.rows[number], scene.zoom
        cell = zoom.cell(box.width())
        # Icons stand above the bars where rows are high, and on them where bars are wide.
        above = box.height() >= _ROOMY and cell >= 5
        on_top = not above and cell >= 11
        head = 9 if above else 1 if on_top else 3
        bar = QRect(box.left(), box.top() + head, box.width(), box.height() - head - 4)
        width = pictures.bars.width()
        source = QRect(0, number - pictures.start, width, 1)
        painter.drawImage(QRect(bar.left(), bar.top(), width, bar.height()), pictures.bars, source)
        low = max(bar.height() // 3, 2)
        painter.drawImage(QRect(bar.left(), bar.bottom() + 1 - low, width, low), pictures.absent, source)
        painter.drawImage(QRect(bar.left(), bar.bottom() + 2, width, 2), pictures.accepted, source)
        self._frames(painter, scene, row, bar, tint)
        if above:
            self._glyphs(painter, scene, row, QRect(box.left(), box.top(), box.width(), 8), tint)
        elif on_top:
            self._glyphs(painter, scene, row, bar, tint, tint.back)
        else:
            painter.drawImage(QRect(bar.left(), box.top(), width, head), pictures.ticks, source)

    def _glyphs(
        self, painter: QPainter, scene: Scene, row: StripRow, box: QRect, tint: Shades, ground: QColor | None = None
    ) -> None:
        """Draw the icons of marks into the middle of a box, on discs of a colour if there is one."""
        zoom = scene.zoom
        first, last = max(int(zoom.first), 0), min(int(zoom.first + zoom.span) + 1, zoom.count)
        some = np.uint8(Mark.PROMPTED | Mark.CORRECTED | Mark.EDITED | Mark.SKIPPED | Mark.REJECTED)
        size, ratio = 8 if ground is None else 11, painter.device().devicePixelRatioF()
        top = box.top() + (box.height() - size) // 2
        for index in (np.flatnonzero(row.marks[first:last] & some) + first).tolist():
            name, colour = next((n, c) for flag, n, c in reversed(GLYPHS) if row.marks[index] & flag)
            x = box.left() + zoom.x(index + 0.5, box.width())
            painter.drawPixmap(round(x - size / 2), top, glyph(name, getattr(tint, colour), size, ground, ratio))

    def _frames(self, painter: QPainter, scene: Scene, row: StripRow, bar: QRect, tint: Shades) -> None:
        """Frame the bank's slices and the current one."""
        zoom = scene.zoom
        cell = zoom.cell(bar.width())
        painter.setBrush(Qt.BrushStyle.NoBrush)

        def frame(index: int, colour: QColor, thick: float, least: float) -> None:
            if not zoom.first - 1 <= index <= zoom.first + zoom.span:
                return
            width = max(cell - 1, least)
            x = bar.left() + zoom.x(index + 0.5, bar.width()) - width / 2 + 0.5
            pen = QPen(colour, thick)
            pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
            painter.setPen(pen)
            painter.drawRect(QRectF(x, bar.top() - 0.5, width, bar.height()))

        for index in scene.bank.get(row.label, ()):
            frame(index, tint.bank, 2.0, 4)
        if scene.index is not None and row.label == scene.label:
            frame(scene.index, tint.text, 2.0, 4)

    def _scale(self, painter: QPainter, widget: QWidget, scene: Scene, area: QRect, ruler: int, tint: Shades) -> None:
        """Draw the ruler, the borders of groups and the current slice's line."""
        zoom, left = scene.zoom, scene.names
        pixels = max(area.width() - left, 1)
        metrics = widget.fontMetrics()
        painter.save()
        painter.setClipRect(QRect(left, 0, pixels, area.height()))
        for start in scene.axis.groups:
            if zoom.first < start < zoom.first + zoom.span:
                border = round(left + zoom.x(start, pixels))
                painter.setPen(QPen(tint.faint, 1, Qt.PenStyle.DotLine))
                painter.drawLine(border, ruler - 4, border, area.height())
        taken = QRectF()
        if scene.index is not None and 0 <= scene.index < zoom.count:
            taken = self._cursor(painter, metrics, scene, area, ruler, tint)
        painter.setPen(tint.faint)
        for index, text, below in self._ticks(scene, metrics, pixels):
            width = metrics.horizontalAdvance(text)
            middle = left + zoom.x(index + 0.5, pixels)
            # A group's title begins at its border.
            x = left + zoom.x(index, pixels) + 3 if below else max(middle - width / 2, left)
            box = QRectF(x, 0, width + 1, ruler - 2)
            if box.right() > area.width() or taken.adjusted(-4, 0, 4, 0).intersects(box):
                continue
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter.value, text)
        painter.restore()

    def _cursor(
        self, painter: QPainter, metrics: QFontMetrics, scene: Scene, area: QRect, ruler: int, tint: Shades
    ) -> QRectF:
        """Draw the current slice's line and name; return where the name is."""
        left, index = scene.names, scene.index or 0
        x = left + scene.zoom.x(index + 0.5, max(area.width() - left, 1))
        if not left <= x <= area.width():
            return QRectF()
        text = scene.axis.short(index)
        long = metrics.horizontalAdvance(text) + 8
        box = QRectF(min(max(x - long / 2, left), max(area.width() - long, left)), 0, long, ruler - 2)
        line = QColor(tint.text)
        line.setAlpha(110)
        painter.setPen(QPen(line, 1))
        painter.drawLine(round(x), ruler - 2, round(x), area.height())
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(tint.text)
        painter.drawRoundedRect(box, 3, 3)
        painter.setPen(tint.back)
        painter.drawText(box, Qt.AlignmentFlag.AlignCenter.value, text)
        return box

    def _ticks(self, scene: Scene, metrics: QFontMetrics, pixels: int) -> list[tuple[int, str, bool]]:
        """Return what the ruler says: slice, text, and whether it is the title of a group."""
        zoom, axis = scene.zoom, scene.axis
        first, stop = int(np.ceil(zoom.first)), min(int(zoom.first + zoom.span) + 1, zoom.count)
        cell = zoom.cell(pixels)
        step = _step((metrics.horizontalAdvance("0" * len(str(zoom.count))) + 10) / cell)
        out: list[tuple[int, str, bool]] = []
        if not axis.groups or axis.titles is None:
            start = -(-first // step) * step
            return [(index, str(index), False) for index in range(start, stop, step)]
        free = 0.0
        for start, end in zip((0, *axis.groups), (*axis.groups, zoom.count), strict=True):
            if end <= first or start >= stop:
                continue
            shown, title = max(start, first), axis.group_title(start)
            if zoom.x(shown, pixels) >= free:
                out.append((shown, title, True))
                free = zoom.x(shown, pixels) + metrics.horizontalAdvance(title) + 14
            for index in range(start + -(-(shown - start) // step) * step, min(end, stop), step):
                text, middle = str(index - start), zoom.x(index + 0.5, pixels)
                room = metrics.horizontalAdvance(text) / 2 + 5
                if middle - room >= free and middle + room < zoom.x(end, pixels):
                    out.append((index, text, False))
                    free = middle + room
        return out


def _step(least: float) -> int:
    """Return the smallest round number that is no less."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if power * factor >= least:
                return power * factor
        power *= 10
