"""A network that is loaded when it is first asked, so that a window can open before it is there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor

    from napari_medsam2.backend.protocol import Attended, Backend, Decoded, Embedding, Memory, ViewPrompt
    from napari_medsam2.geometry import View, ViewSpec

__all__ = ["DeferredBackend"]


class DeferredBackend:
    """A `Backend` that loads another one when anything but its name is asked for; once, in whatever thread asks first.

    Parameters
    ----------
    name : str
        The name that the loaded one will have.
    load : callable
        Loads it.
    """

    def __init__(self, name: str, load: Callable[[], Backend]) -> None:
        self._name, self._load = name, load
        self._lock = threading.Lock()
        self._loaded: Backend | None = None

    def get(self) -> Backend:
        """Return the loaded one; loading that failed is tried again at the next call.

        Raises
        ------
        InputError
            Whatever loading raises.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    @property
    def loaded(self) -> bool:
        """Whether it is there."""
        return self._loaded is not None

    @property
    def name(self) -> str:
        """The model's name; known before it is loaded."""
        return self._name if self._loaded is None else self._loaded.name

    @property
    def weights(self) -> str:
        """The SHA-256 of a person's own weights, or nothing."""
        return self.get().weights

    @property
    def device(self) -> torch.device:
        """Where its tensors live."""
        return self.get().device

    @property
    def views(self) -> ViewSpec:
        """How it wants its views."""
        return self.get().views

    @property
    def batch(self) -> int:
        """How many objects are worth decoding at once."""
        return self.get().batch

    def encode(self, images: Tensor) -> Embedding:
        """See `Backend.encode`."""
        return self.get().encode(images)

    def join(self, embeddings: Sequence[Embedding]) -> Embedding:
        """See `Backend.join`."""
        return self.get().join(embeddings)

    def decode(self, embedding: Embedding, prompts: Sequence[ViewPrompt], context: Any = None) -> Decoded:
        """See `Backend.decode`."""
        return self.get().decode(embedding, prompts, context)

    def adopt(self, embedding: Embedding, masks: Tensor) -> Decoded:
        """See `Backend.adopt`."""
        return self.get().adopt(embedding, masks)

    def remember(
        self, embedding: Embedding, decoded: Decoded, views: Sequence[View], indices: Sequence[int], prompted: bool
    ) -> list[Memory]:
        """See `Backend.remember`."""
        return self.get().remember(embedding, decoded, views, indices, prompted)

    def attend(
        self,
        embedding: Embedding,
        banks: Sequence[Sequence[Attended]],
        views: Sequence[View],
        ordered: bool,
        index: int | None = None,
        run: range | None = None,
    ) -> Any:
        """See `Backend.attend`."""
        return self.get().attend(embedding, banks, views, ordered, index, run)
