"""Medical SAM 2 for napari: one prompt in, a labelled stack out.

The names below are the public API. They are loaded when they are first used, so that importing the package costs
nothing: it imports neither torch nor Qt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_medsam2.backend import load_backend
    from napari_medsam2.errors import InputError
    from napari_medsam2.results import ObjectResult, SliceResult
    from napari_medsam2.segmentation import segment_stack
    from napari_medsam2.session import AnnotationSession
    from napari_medsam2.stack import ImageStack

__version__ = "0.1.0"

__all__ = [
    "AnnotationSession",
    "ImageStack",
    "InputError",
    "ObjectResult",
    "SliceResult",
    "__version__",
    "load_backend",
    "segment_stack",
]

_HOMES = {
    "AnnotationSession": "session",
    "ImageStack": "stack",
    "InputError": "errors",
    "ObjectResult": "results",
    "SliceResult": "results",
    "load_backend": "backend",
    "segment_stack": "segmentation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
