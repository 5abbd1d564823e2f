"""Carry the npe2 manifest from the top level of the repository into the package, for wheels and editable installs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManifestHook(BuildHookInterface[Any]):
    """Put ``napari.yaml`` where the ``napari.manifest`` entry point looks for it: inside the package."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the manifest to a wheel; beside the code, link it (or copy it, where links are not allowed)."""
        manifest = Path(self.root, "napari.yaml")
        if version != "editable":
            build_data["force_include"][str(manifest)] = "napari_medsam2/napari.yaml"
            return
        beside_code = Path(self.root, "src", "napari_medsam2", "napari.yaml")
        beside_code.unlink(missing_ok=True)
        try:
            beside_code.symlink_to(Path("..", "..", "napari.yaml"))
        except OSError:
            shutil.copyfile(manifest, beside_code)
