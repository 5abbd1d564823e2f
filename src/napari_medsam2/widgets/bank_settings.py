"""How a memory bank chooses: policy, size and threshold."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QComboBox, QDoubleSpinBox, QFormLayout, QSpinBox, QWidget

from napari_medsam2.memory import BankConfig, Policy

__all__ = ["POLICIES", "BankSettings"]

POLICIES = {
    "self-sorting": "Self-sorting",
    "released": "Released code",
    "fifo": "Most recent",
}
"""What the choice calls the policies."""

_POLICY_TIPS = {
    "self-sorting": "MedSAM-2's: keeps confident memories that differ; those that resemble the slice weigh more",
    "released": "The rule of the MedSAM-2 authors' published 2-D code",
    "fifo": "SAM 2's: keeps prompted slices and the most recent ones",
}


class BankSettings(QWidget):
    """Policy, size and threshold of a bank.

    Parameters
    ----------
    parent : QWidget, optional
        Its parent.
    """

    changed = Signal(object)
    """The new `BankConfig`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._config = BankConfig()
        self._policy = QComboBox()
        for number, policy in enumerate(get_args(Policy)):
            self._policy.addItem(POLICIES[policy], policy)
            self._policy.setItemData(number, _POLICY_TIPS[policy], Qt.ItemDataRole.ToolTipRole)
        self._policy.setMinimumContentsLength(8)
        self._size = QSpinBox()
        self._size.setRange(1, 64)
        self._size.setToolTip("How many memories the bank keeps; more are slower")
        self._threshold = QDoubleSpinBox()
        self._threshold.setRange(0.0, 1.0)
        self._threshold.setSingleStep(0.05)
        self._threshold.setToolTip("The bank takes memories whose confidence is above this")
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 4, 0)
        form.setVerticalSpacing(4)
        form.addRow("Policy", self._policy)
        form.addRow("Memories", self._size)
        form.addRow("Confident above", self._threshold)
        for box in (self._size, self._threshold):
            box.setKeyboardTracking(False)
            box.valueChanged.connect(self._on_change)
        self._policy.currentIndexChanged.connect(self._on_policy)
        self.show_config(self._config)

    def show_config(self, config: BankConfig) -> None:
        """Show a session's settings; emits nothing."""
        self._config = config
        boxes = (self._policy, self._size, self._threshold)
        for box in boxes:
            box.blockSignals(True)
        self._policy.setCurrentIndex(self._policy.findData(config.policy))
        self._policy.setToolTip(_POLICY_TIPS[config.policy])
        self._size.setValue(config.capacity)
        self._threshold.setValue(config.threshold)
        self._threshold.setEnabled(config.policy == "self-sorting")
        for box in boxes:
            box.blockSignals(False)

    def _on_policy(self) -> None:
        # Each policy has a size of its own that suits it.
        self._emit(replace(self._config, policy=self._policy.currentData(), size=None))

    def _on_change(self) -> None:
        size = self._config.size if self._size.value() == self._config.capacity else self._size.value()
        self._emit(replace(self._config, size=size, threshold=round(self._threshold.value(), 4)))

    def _emit(self, config: BankConfig) -> None:
        if config != self._config:
            self.show_config(config)
            self.changed.emit(config)
