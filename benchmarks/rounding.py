"""What a difference in logits is worth: the published code beside itself, and both in double precision.

``python -m benchmarks.rounding --sam2 DIR`` (see `benchmarks.parity` for what DIR is and needs)

For each film, with the structured weights, which amplify rounding most: ours and theirs in single precision; theirs
and theirs again, its convolutions summed in another order (without oneDNN); theirs in single and in double precision;
ours and theirs in double precision, where what is left comes from tables (places, rotations) made in single precision.
"""

from __future__ import annotations

import argparse
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import parity

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Double(parity.Torch):
    """``torch`` whose half and single precision are double."""

    def __getattr__(self, name: str) -> Any:
        import torch

        return torch.float64 if name in ("bfloat16", "float32", "float") else super().__getattr__(name)


@contextmanager
def doubled(*models: Any) -> Iterator[None]:
    """Compute in double precision, whatever the code asks for."""
    import torch
    from tests.sam2 import cases

    module: Any = torch
    kept = (module.float32, torch.Tensor.float, cases.make_film, parity.Torch, torch.get_default_dtype())
    module.float32 = module.float = torch.float64
    torch.Tensor.float = torch.Tensor.double  # type: ignore[method-assign]
    cases.make_film = lambda *args, **kwargs: kept[2](*args, **kwargs).double()
    parity.Torch = _Double  # type: ignore[misc]
    torch.set_default_dtype(torch.float64)
    for model in models:
        model.double()
    try:
        yield
    finally:
        module.float32, torch.Tensor.float, cases.make_film, parity.Torch = kept[:4]  # type: ignore[misc, method-assign]
        module.float = module.float32
        torch.set_default_dtype(kept[4])


def compare(name: str, root: Path) -> None:
    """Print four lines a film."""
    import torch
    from tests.sam2 import cases

    for case in cases.FILMS:
        model = parity.build(root, name, case.weights, case.absent, structured=True)
        backend = parity.ours(model, name)
        backend.memory_dtype = torch.float32
        theirs, mine = parity.reference(model, name, case, False), cases.propagate(backend, case)
        with torch.backends.mkldnn.flags(enabled=False):
            again = parity.reference(model, name, case, False)
        with doubled(model, backend.model):
            for key, value in list(vars(backend).items()):
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    setattr(backend, key, value.double())
            backend.memory_dtype = torch.float64
            exact, own = parity.reference(model, name, case, False), cases.propagate(backend, case)
        for head, a, b in (
            ("ours, theirs", mine, theirs),
            ("theirs, theirs summed otherwise", again, theirs),
            ("theirs, theirs in double", theirs, exact),
            ("ours, theirs in double", own, exact),
        ):
            parity.report(f"{name:8} {case.name:26} {head:32}", a, b)


def main() -> None:
    """Compare one published implementation."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sam2", type=Path, required=True)
    root = parser.parse_args().sam2.resolve()
    warnings.filterwarnings("ignore", category=UserWarning)
    torch.set_num_threads(1)
    torch.Tensor.cuda = lambda self, *_, **__: self  # type: ignore[method-assign]
    compare("sam2.1", root)


if __name__ == "__main__":
    main()
