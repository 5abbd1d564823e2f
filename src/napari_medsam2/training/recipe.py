"""What a training is made of: the recipe, and the phases of the embedded model's."""

from __future__ import annotations

from dataclasses import dataclass

from napari_medsam2.training.synthetic import BODIES

__all__ = ["PHASES", "Recipe"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides what comes out of training, but the data."""

    seed: int = 0
    steps: int = 2000
    last: int | None = None
    """The step after which training ends, where that is before the rate has fallen all the way."""
    side: int = 192
    final_side: int = 256
    final_share: float = 0.0
    """The share of the steps at the end that is made at ``final_side``, while the learning rate, steady until then,
    falls in a straight line to a hundredth."""
    singles: int = 8
    stacks: int = 2
    slices: int = 5
    collections: int = 2
    objects: int = 3
    real: float = 0.5
    """Share of the clips cut from real images; the others are synthetic."""
    learning_rate: float = 1e-3
    encoder_share: float = 0.25
    """The encoder's learning rate relative to the rest's, since it starts from ImageNet."""
    warmup: int = 100
    weight_decay: float = 0.02
    average: float = 0.998
    bfloat16: bool = True
    """Whether to compute in bfloat16 where that is quick: on a GPU, and on processors with AVX-512."""
    frozen: int = 0
    """How many of the encoder's blocks, from its stem on, are left as they are; their backward pass is the dearest."""
    pieces: float = 0.1
    """Share of the synthetic prompted views in which an object is several bodies that look alike."""
    pool: int = 0
    """Which drawing of synthetic volumes; another one shows the network bodies that it has not seen yet."""
    bodies: float = BODIES
    """Share of sections through bodies among the synthetic volumes."""
    colonies: float = 0.0
    """Share of colonies and filaments among the synthetic volumes."""
    heads: float = 0.0
    """Share of sections through heads among the synthetic volumes; the other shares are of what is left."""
    far: float = 0.0
    """Share of the prompted views from so far that only a click would be tried there."""
    some: float = 0.0
    """Share of the collections on whose first image some of the bodies are painted and not all."""
    lone: float = 0.0
    """Share of those on whose first image one body is painted."""
    salient: float = 0.0
    """Share of those on whose first image the bodies are painted that stand out most from what is around them."""
    own: float = 0.0
    """Share of the synthetic collections whose object is one body, such as an organ, and not what is like it."""
    inverse: float = 0.0
    """Share of the real collections whose object is all that is no body."""
    collections_only: bool = False
    """Whether to train a decoder for collections, which begins as a copy of the network's, and nothing else."""
    volumes: int = 1000
    """How many synthetic volumes are drawn."""
    fixed: int = 0
    """How many objects a clip counts for in a share: with as many in every step, a GPU need not look for kernels that
    suit their number. 0: as many as there are."""
    blend: float = 1.0
    """The averaged weights' share in what a phase gives; the rest are the weights that it began with. What is learned
    of new images costs less of what was known where the two are mixed (Wortsman et al. 2022, arXiv 2109.01903)."""
    parts: int = 2
    """Into how many shares a step's prompted views are divided, and its stacks; the collections into half as many."""

    @property
    def end(self) -> int:
        """How many steps are made."""
        return self.steps if self.last is None else min(self.last, self.steps)

    def side_of(self, step: int) -> int:
        """How many pixels the views of a step have on a side."""
        return self.final_side if step >= self.steps * (1 - self.final_share) else self.side

    def rate_of(self, step: int) -> float:
        """A step's learning rate, relative to ``learning_rate``."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        left = (self.steps - step) / max(1.0, self.steps * self.final_share)
        return 0.01 + 0.99 * min(1.0, left)


PHASES = (
    Recipe(),
    Recipe(
        seed=3, steps=3650, last=3300, side=256, final_share=0.5, singles=36, stacks=12, collections=4, objects=4,
        fixed=3, parts=3, learning_rate=8e-4, warmup=50, pieces=0.15, pool=3, bodies=0.6, volumes=2000,
    ),
    Recipe(
        seed=5, steps=400, side=256, final_share=0.6, singles=8, stacks=1, collections=4, real=0.45, frozen=7,
        learning_rate=3e-4, warmup=30, average=0.995, pool=4, bodies=0.6, colonies=0.4, far=0.2, some=0.6, volumes=600,
        blend=0.5,
    ),
    Recipe(
        seed=6, steps=1000, side=192, final_share=0.6, singles=0, stacks=0, collections=8, parts=4, real=0.5,
        learning_rate=5e-4, warmup=30, average=0.995, pool=5, bodies=0.6, colonies=0.4, heads=0.25, some=0.75,
        lone=0.35, salient=0.4, own=0.6, inverse=0.1, volumes=600, collections_only=True,
    ),
)  # fmt: skip
"""The recipes, one after the other; each goes on from the weights that the one before gives."""
