"""Which image is annotated, and how its axes are read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QFormLayout, QPushButton, QSizePolicy, QWidget

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.layer_spec import LayerSpec, choices, guess_axes, shape_of
from napari_medsam2.widgets.sections.parts import Section, elided, row
from napari_medsam2.widgets.wanted import Wanted
from napari_medsam2.words import counted

if TYPE_CHECKING:
    from napari.layers import Image

    from napari_medsam2.session_base import Kind
    from napari_medsam2.widgets.workbench import Workbench

__all__ = ["ImageSection"]

_WORDS = {"T": "time", "Z": "depth", "N": "image", "C": "channel", "Y": "row", "X": "column"}


class ImageSection(Section):
    """The image, its axes, its channels, and the button with which the work begins and ends."""

    def __init__(self, bench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__("Image", parent)
        self._bench = bench
        self._layers: list[Image] = []
        self._busy = False
        # The image that the choices are for, and its shape.
        self._guessed: tuple[Image, tuple[int, ...]] | None = None
        self.layer = _combo("The image layer to annotate. The active layer is chosen by itself.")
        self.axes = _combo("What the image's axes are, from the first slider to rows and columns.")
        self.channel = _combo("What the model looks at, in an image with several channels.")
        self.kind = _combo(
            "Stack: slices are neighbours, masks are followed from one to the next. "
            "Collection: images in no order; one prompt finds the same kind of object in all of them."
        )
        self.intensity = _combo(
            "Which intensities the model sees as black and white. As shown: the layer's contrast limits, "
            "as a CT wants them."
        )
        self.kind.addItem("Stack", "stack")
        self.kind.addItem("Collection", "collection")
        self.intensity.addItem("Automatic", False)
        self.intensity.addItem("As shown", True)
        self.start = QPushButton("Annotate")
        self.start.setObjectName("medsam2-annotate")
        self.start.setToolTip("Begin: adds a layer of masks, one of prompts and one of boxes. Or just press P.")
        self.about = elided()
        self.options = QWidget()
        form = QFormLayout(self.options)
        form.setContentsMargins(0, 0, 0, 0)
        form.setSpacing(4)
        form.addRow("Axes", row(self.axes, self.kind, stretch=0))
        form.addRow("Seen", row(self.channel, self.intensity, stretch=0))
        self.column.addWidget(row(self.layer, self.start, stretch=0))
        self.column.addWidget(self.options)
        self.column.addWidget(self.about)
        self.layer.currentIndexChanged.connect(self._chosen)
        self.axes.currentIndexChanged.connect(self._axes_chosen)
        self.start.clicked.connect(lambda *_: bench.attempt(self._begin_or_end))
        layers = bench.viewer.layers
        layers.events.inserted.connect(self.refresh)
        layers.events.removed.connect(self.refresh)
        layers.events.renamed.connect(self.refresh)
        layers.selection.events.active.connect(self._follow)
        bench.events.annotation.connect(self.refresh)
        bench.events.saved.connect(self._finishing)
        bench.wanted = self.wanted
        self._follow()
        self.refresh()

    def close_section(self) -> None:
        """Hear nothing more of the viewer."""
        layers = self._bench.viewer.layers
        layers.events.inserted.disconnect(self.refresh)
        layers.events.removed.disconnect(self.refresh)
        layers.events.renamed.disconnect(self.refresh)
        layers.selection.events.active.disconnect(self._follow)
        self._bench.events.annotation.disconnect(self.refresh)
        self._bench.events.saved.disconnect(self._finishing)
        self._bench.wanted = self._bench.likely

    def wanted(self) -> Wanted | None:
        """What is chosen; None where there is no image."""
        image = self._current()
        if image is None:
            return None
        low, high = image.contrast_limits
        window = (float(low), float(high)) if self.intensity.currentData() and not image.rgb else None
        kind: Kind = self.kind.currentData()
        return Wanted(image, self.axes.currentData(), self.channel.currentData(), window, kind)

    def _finishing(self) -> None:
        """While the work is saved it cannot be finished again."""
        if self._bench.annotation is not None:
            finishing = self._bench.keeper.finishing
            self.start.setText("Finishing…" if finishing else "Finish")
            self.start.setEnabled(not finishing)

    def refresh(self, _: Any = None) -> None:
        """List the image layers, and say what is annotated."""
        annotation = self._bench.annotation
        chosen = annotation.image if annotation else self._current()
        self._layers = self._bench.images()
        self._busy = True
        self.layer.clear()
        for layer in self._layers:
            self.layer.addItem(layer.name)
        if chosen in self._layers:
            self.layer.setCurrentIndex(self._layers.index(chosen))
        self._busy = False
        busy = annotation is not None
        self.layer.setEnabled(not busy and bool(self._layers))
        self.options.setVisible(not busy and bool(self._layers))
        self.start.setText("Finish" if busy else "Annotate")
        self.start.setEnabled(busy or bool(self._layers))
        if annotation is not None:
            stack = annotation.session.stack
            sizes = "×".join(map(str, stack.slice_shape(0))) if stack.uniform else "different sizes"
            self.about.setText(f"{counted(len(stack), annotation.session.noun)} of {sizes}, {stack.axes}")
        elif not self._layers:
            self._guessed = None
            self.about.setText("Open an image, or File ▸ Open Sample ▸ Medical SAM 2")
        else:
            self._chosen()

    def _current(self) -> Image | None:
        number = self.layer.currentIndex()
        return self._layers[number] if 0 <= number < len(self._layers) else self._bench.candidate()

    def _follow(self, _: Any = None) -> None:
        """Choose the active layer, if it is an image and nothing is being annotated."""
        active = self._bench.viewer.layers.selection.active
        if self._bench.annotation is None and active in self._layers:
            self.layer.setCurrentIndex(self._layers.index(active))

    def _chosen(self, _: Any = None) -> None:
        image = self._current()
        if self._busy or image is None or self._bench.annotation is not None:
            return
        if self._guessed == (image, shape_of(image)):
            # Layers come and go beside it: what a person chose for it holds.
            self._describe()
            return
        self._guessed = None
        self._busy = True
        self.axes.clear()
        try:
            for axes in choices(image):
                self.axes.addItem(axes, axes)
            self.axes.setCurrentText(guess_axes(image))
            self.start.setEnabled(True)
            self._guessed = image, shape_of(image)
        except InputError as error:
            self.about.setText(str(error))
            self.start.setEnabled(False)
        self.intensity.setCurrentIndex(1 if "window" in image.metadata else 0)
        self._busy = False
        self._axes_chosen()

    def _axes_chosen(self, _: Any = None) -> None:
        image, axes = self._current(), self.axes.currentData()
        if self._busy or image is None or not axes:
            return
        spec = LayerSpec.of(image, axes)
        self.channel.clear()
        if spec.channel is None:
            self.channel.addItem("Colours" if spec.rgb else "Grey values", None)
        else:
            count = spec.shape[spec.channel]
            self.channel.addItem("All channels" if count <= 3 else "First 3 channels", None)
            for number in range(count):
                self.channel.addItem(f"Channel {number}", number)
        self.channel.setEnabled(spec.channel is not None)
        self.kind.setCurrentIndex(1 if "N" in axes else 0)
        # A single picture is both.
        self.kind.setEnabled(spec.length > 1)
        self._describe()

    def _describe(self) -> None:
        image, axes = self._current(), self.axes.currentData()
        if image is None or not axes:
            return
        spec = LayerSpec.of(image, axes)
        words = " · ".join(f"{_WORDS[letter]} {size}" for letter, size in zip(spec.axes, spec.shape, strict=True))
        self.about.setText(words)

    def _begin_or_end(self) -> None:
        if self._bench.annotation is not None:
            self._bench.finish()
            return
        self._bench.start()


def _combo(tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setToolTip(tip)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    combo.setMinimumContentsLength(6)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return combo
