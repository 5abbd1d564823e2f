"""The list of models: what each is good for, downloading one, choosing one, and the device."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QDialog, QVBoxLayout, QWidget

from napari_medsam2.errors import InputError
from napari_medsam2.widgets.model_table import ModelTable
from napari_medsam2.widgets.rows.models import ModelRow, ModelState

if TYPE_CHECKING:
    from napari_medsam2.backend.registry import ModelEntry
    from napari_medsam2.widgets.workbench import Workbench
    from napari_medsam2.widgets.worker import Ticket

__all__ = ["ModelsDialog"]

_EMBEDDED = ModelRow(
    "compact", "Compact (embedded)", None, "Apache-2.0",
    "At once, offline, on any computer: nuclei, cells and organs with edges of their own.", "ready",
)  # fmt: skip


class _Download:
    """One download: how far it is, and the way to stop it."""

    def __init__(self) -> None:
        self.done, self.total = 0, 0
        self.stop = threading.Event()
        self.ticket: Ticket | None = None
        self.error = ""

    def progress(self, done: int, total: int | None) -> None:
        """Note how far it is; called in the download's thread."""
        self.done, self.total = done, total or 0


class ModelsDialog(QDialog):
    """Models and devices.

    Parameters
    ----------
    bench : Workbench
        Whose model is chosen.
    """

    def __init__(self, bench: Workbench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Medical SAM 2: models")
        self._bench = bench
        self._downloads: dict[str, _Download] = {}
        self._entries: dict[str, ModelEntry] = {}
        self.table = ModelTable()
        column = QVBoxLayout(self)
        column.addWidget(self.table)
        self.resize(560, 480)
        attempt = bench.attempt
        self.table.get.connect(lambda key: attempt(lambda: self._get(key)))
        self.table.cancel.connect(self._cancel)
        self.table.use.connect(lambda key: attempt(lambda: bench.use_model(key)))
        self.table.device_changed.connect(self._use_device)
        self._timer = QTimer(self)
        self._timer.setInterval(200)
        self._timer.timeout.connect(self.refresh)
        self._running = True
        self._fault = ""
        bench.events.model.connect(self.refresh)
        bench.worker.submit(_devices, self._show_devices, lambda _: None, lane="io")
        self.refresh()

    def close_dialog(self) -> None:
        """Stop downloads, hear nothing more."""
        if not self._running:
            return
        self._running = False
        self._timer.stop()
        self._bench.events.model.disconnect(self.refresh)
        for download in self._downloads.values():
            download.stop.set()

    def refresh(self) -> None:
        """Show every model as it is now."""
        from napari_medsam2.backend.download import is_downloaded

        self._entries = {entry.name: entry for entry in self._known()}
        rows = [_with_use(_EMBEDDED, self._bench.model)]
        for entry in self._entries.values():
            download = self._downloads.get(entry.name)
            state: ModelState = "ready" if is_downloaded(entry) else "absent"
            progress, note = None, ""
            if download is not None and download.ticket is not None:
                state = "downloading" if download.done else "waiting"
                progress = download.done / download.total if download.total else None
            elif download is not None and download.error:
                state, note = "failed", download.error
            use = entry.use[:1].upper() + entry.use[1:]
            row = ModelRow(entry.name, entry.title, entry.size, entry.licence, use, state, progress, note)
            rows.append(_with_use(row, self._bench.model))
        self.table.show_rows(rows)
        self.table.show_device(self._bench.device)

    def _known(self) -> list[ModelEntry]:
        """List the models; where a person's list has a mistake, which is told once, the published ones."""
        from napari_medsam2.backend.registry import entries, published

        try:
            found = entries()
        except InputError as error:
            if str(error) != self._fault:
                self._fault = str(error)
                self._bench.trouble(error)
            return published()
        self._fault = ""
        return found

    def _use_device(self, device: str) -> None:
        self._bench.attempt(lambda: self._bench.use_model(self._bench.model, device))
        # It may have been refused.
        self.table.show_device(self._bench.device)

    def _show_devices(self, devices: dict[str, str]) -> None:
        self.table.show_devices(devices, self._bench.device)

    def _get(self, key: str) -> None:
        from napari_medsam2.backend.download import fetch

        entry, download = self._entries[key], _Download()
        self._downloads[key] = download
        download.ticket = self._bench.worker.submit(
            lambda: fetch(entry, progress=download.progress, cancelled=download.stop.is_set),
            lambda _: self._ended(key, ""),
            lambda error: self._ended(key, "" if download.stop.is_set() else str(error)),
            lane="net",
        )
        self._bench.stops.append(download.stop.set)
        self._timer.start()
        self.refresh()

    def _cancel(self, key: str) -> None:
        download = self._downloads.get(key)
        if download is not None:
            download.stop.set()

    def _ended(self, key: str, error: str) -> None:
        download = self._downloads[key]
        self._bench.stops.remove(download.stop.set)
        download.ticket, download.error = None, error
        if not any(one.ticket for one in self._downloads.values()):
            self._timer.stop()
        self.refresh()


def _with_use(row: ModelRow, chosen: str) -> ModelRow:
    return replace(row, in_use=row.key == chosen)


def _devices() -> dict[str, str]:
    """The devices of this machine; importing torch for it takes its time."""
    import torch

    out = {"auto": "Choose by itself", "cpu": "CPU"}
    for number in range(torch.cuda.device_count()):
        out[f"cuda:{number}"] = torch.cuda.get_device_name(number)
    if torch.backends.mps.is_available():
        out["mps"] = "Apple GPU"
    return out
