"""How a memory bank chooses: policy, size, threshold and trust."""

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
    """Policy, size, threshold and trust of a bank.

    Parameters
    ----------
    parent : QWidget, optional
        Its parent.
    """

    changed = Signal(object)
    """The new `BankConfig`."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._config = self._suited = BankConfig()
        self._shown: dict[str, float] = {}
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
        self._trust = QDoubleSpinBox()
        self._trust.setRange(0.01, 1.0)
        self._trust.setSingleStep(0.05)
        self._trust.setToolTip("How much a memory of the model's own weighs, relative to one that you made or pinned")
        form = QFormLayout(self)
        form.setContentsMargins(0, 0, 4, 0)
        form.setVerticalSpacing(4)
        form.addRow("Policy", self._policy)
        form.addRow("Memories", self._size)
        form.addRow("Confident above", self._threshold)
        form.addRow("Weight of its own", self._trust)
        for box in (self._size, self._threshold, self._trust):
            box.setKeyboardTracking(False)
            box.valueChanged.connect(self._on_change)
        self._policy.currentIndexChanged.connect(self._on_policy)
        self.show_config(self._config)

    def show_config(self, config: BankConfig, suited: BankConfig | None = None) -> None:
        """Show a session's settings, and what holds where it has none (`BankConfig.suited`); emits nothing."""
        self._config, self._suited = config, config.suited("stack", "") if suited is None else suited
        boxes = (self._policy, self._size, self._threshold, self._trust)
        for box in boxes:
            box.blockSignals(True)
        self._policy.setCurrentIndex(self._policy.findData(config.policy))
        self._policy.setToolTip(_POLICY_TIPS[config.policy])
        self._size.setValue(config.capacity)
        for name, box in self._shares():
            box.setValue(getattr(self._suited, name))
            self._shown[name] = box.value()
            box.setEnabled(config.policy == "self-sorting")
        for box in boxes:
            box.blockSignals(False)

    def _on_policy(self) -> None:
        # Each policy has a size of its own that suits it.
        self._emit(replace(self._config, policy=self._policy.currentData(), size=None))

    def _on_change(self) -> None:
        changed: dict[str, float | None] = {}
        if self._size.value() != self._config.capacity:
            changed["size"] = self._size.value()
        for name, box in self._shares():
            # The box rounds: what was not touched stays as it is, and what nobody chose stays so.
            if box.value() != self._shown[name]:
                changed[name] = round(box.value(), box.decimals())
        self._emit(replace(self._config, **changed))  # type: ignore[arg-type]

    def _shares(self) -> tuple[tuple[str, QDoubleSpinBox], ...]:
        return ("threshold", self._threshold), ("trust", self._trust)

    def _emit(self, config: BankConfig) -> None:
        if config != self._config:
            chosen = {name: value for name, _ in self._shares() if (value := getattr(config, name)) is not None}
            self.show_config(config, replace(self._suited, **chosen))
            self.changed.emit(config)
