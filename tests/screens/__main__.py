"""``python -m tests.screens``: play the stories in a window and photograph every state into ``docs/images/gui``."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

_PLACE = Path(__file__).parents[2] / "docs" / "images" / "gui"


def main() -> None:
    """Play all stories, or those that are named."""
    # Before napari is imported: neither settings, sessions nor files of the person who runs this are touched.
    apart = tempfile.TemporaryDirectory()
    # Paths that pictures show are those of somebody without a name.
    os.environ["HOME"] = os.environ["USERPROFILE"] = str(Path(apart.name) / "home")
    Path(os.environ["HOME"]).mkdir()
    os.environ["NAPARI_CONFIG"] = str(Path(apart.name) / "settings.yaml")
    os.environ["NAPARI_MEDSAM2_SESSIONS"] = str(Path(apart.name) / "sessions")
    from tests.screens.stories import STORIES

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", nargs="*", choices=[*STORIES, []], help="all by default")
    parser.add_argument("--output", type=Path, default=_PLACE)
    asked = parser.parse_args()
    for name in asked.stories or STORIES:
        sys.stdout.write(f"{name}: {STORIES[name](asked.output)}\n")
        sys.stdout.flush()
    apart.cleanup()


if __name__ == "__main__":
    main()
