"""Ways to keep memories that are measured against each other."""

from __future__ import annotations

from napari_medsam2.memory import BankConfig

__all__ = ["PAPERS", "WAYS"]

PAPERS = "the paper's"
WAYS = {
    "self-sorting": BankConfig(),
    PAPERS: BankConfig(threshold=0.6, trust=1.0),
    "released": BankConfig("released"),
    "fifo": BankConfig("fifo"),
}
"""The policies; the second one is the first with the settings of MedSAM-2's paper, which in stacks are its own."""
