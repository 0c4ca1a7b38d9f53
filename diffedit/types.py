"""The words everything here is written in: requests, queries, answers, and the four protocols. Read this first.

A *method* (`Editor`) is a generator for one request. It yields *queries* to the networks and is sent the answers; what
it returns is an `EditResult`. Who answers is not its business: `diffedit.engine.Engine` batches the queries of many
walks, `diffedit.engine.drive` answers one walk at a time.

Conventions, everywhere:

* images are float tensors in [0, 1], channels first, RGB;
* a mask is 1 (white) where the picture may change;
* a latent x at a noise level satisfies x = alpha * x0 + sigma * eps;
* level 0 is clean, level N (the number of steps) the noisiest.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

T = TypeVar("T")

Cond = Any
"""What a backbone makes of one text (an embedding, a class index): opaque to a walk, which only hands it back."""


class Level(NamedTuple):
    """One noise level: x = alpha * x0 + sigma * eps, and the time label that the network is given there."""

    alpha: float
    sigma: float
    label: float


class Prediction(NamedTuple):
    """What the denoiser says of k latents, free of its parameterisation: x = alpha * x0 + sigma * eps."""

    x0: Float[Tensor, "k c h w"]
    eps: Float[Tensor, "k c h w"]


# ---------------------------------------------------------------------------------------------------- requests, results


@dataclass(frozen=True)
class EditRequest:
    """One picture to edit.

    Attributes:
        id: unique in its benchmark; names the files and seeds the noise.
        image: loads the picture, (3, H, W); called inside the walk, so that a bad file fails its own request only.
        target: the text that the result shall show (Q in the paper).
        source: the text that describes the picture (R), where one is known.
        mask: loads a given mask, (1, H, W) in [0, 1], 1 = edit.
    """

    id: str
    image: Callable[[], Float[Tensor, "3 H W"]]
    target: str
    source: str | None = None
    mask: Callable[[], Float[Tensor, "1 H W"]] | None = None


@dataclass(frozen=True)
class Edit:
    """One edited picture: `image` is (3, H, W) in [0, 1]; `level` = round(ratio * N) is where its decoding began."""

    ratio: float
    level: int
    image: Float[Tensor, "3 H W"]


@dataclass(frozen=True)
class EditResult:
    """What a walk returns: an edit per ratio, and what they share.

    Attributes:
        edits: in the order of the ratios asked for.
        mask: on the latent grid, True = edited; None for a method without one.
        contrast: the continuous map behind an inferred mask, before any rule for extreme values or threshold.
        notes: small facts for the record (`mask_area`, `mask_flag`, ...).
    """

    edits: list[Edit]
    mask: Bool[Tensor, "1 1 h w"] | None = None
    contrast: Float[Tensor, "h w"] | None = None
    notes: Mapping[str, str | float] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------------- queries


@dataclass(frozen=True, eq=False)
class Encode:
    """Ask for the latent of one image; the answer is (1, c, h, w), the posterior's mode."""

    image: Float[Tensor, "3 H W"]


@dataclass(frozen=True, eq=False)
class Decode:
    """Ask for the images of k latents; the answer is (k, 3, H, W), clipped to [0, 1]."""

    latents: Float[Tensor, "k c h w"]


@dataclass(frozen=True, eq=False)
class Embed:
    """Ask for the conditions of some texts; the answer is a list of `Cond`, one a text. "" is the unconditional."""

    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Predict:
    """Ask for k noise estimates: k evaluations of the network.

    Attributes:
        x: k latents.
        level: where they are; its label is what the network is told.
        conds: one condition a latent.
        edits: for each latent, the start level of the edit it works for; empty when it serves all edits of the request
            (the mask, the encoding). Only the accounting reads it.
    """

    x: Float[Tensor, "k c h w"]
    level: Level
    conds: tuple[Cond, ...]
    edits: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Call:
    """Ask for `fn(backbone)`, run alone and with gradients on: for what cannot be batched."""

    fn: Callable[["Backbone"], Any]


Query = Encode | Decode | Embed | Predict | Call
Walk = Generator[Query, Any, T]
"""A computation for one request that yields queries, is sent their answers and returns a T. `yield from` composes."""


class Outcome(NamedTuple):
    """How one walk ended.

    Attributes:
        id: the request's.
        result: None when the walk failed.
        error: why it failed, or None.
        evaluations: denoiser evaluations by start level of the edit they served; None counts the shared ones.
        seconds: the walk's share of the wall time, by rows in each network call.
    """

    id: str
    result: EditResult | None
    error: Exception | None
    evaluations: Counter[int | None]
    seconds: float


# ----------------------------------------------------------------------------------------------------------- protocols


class Noise(Protocol):
    """Where a walk's randomness comes from (`diffedit.rng.RequestNoise`)."""

    def like(self, x: Tensor, purpose: str, count: int = 1) -> Tensor:
        """`count` standard normal samples of the shape x[0]; the same purpose always gives the same ones."""
        ...


class Levels(Protocol):
    """The noise levels of a run, clean to noisy (`diffedit.levels.NoiseLevels`)."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Level: ...

    def of(self, ratio: float) -> int:
        """The level at which an edit of this ratio starts."""
        ...

    def starts(self, ratios: Sequence[float]) -> list[int]:
        """The start levels of several ratios, all different."""
        ...


class Backbone(Protocol):
    """The networks behind a walk. Every method answers a batch; no answer may depend on the other rows."""

    resolution: int
    """Side of the square images, in pixels."""

    def levels(self, steps: int) -> Levels:
        """`steps` noise levels above the clean one, on the model's own schedule."""
        ...

    def encode(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Latents of images in [0, 1]."""
        ...

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Images, clipped to [0, 1]."""
        ...

    def embed(self, texts: Sequence[str]) -> list[Cond]:
        """One condition a text; "" gives the unconditional one."""
        ...

    def predict(self, x: Float[Tensor, "b c h w"], levels: Sequence[Level], conds: Sequence[Cond]) -> Prediction:
        """One noise estimate a row, each at its own level and under its own condition."""
        ...


class Editor(Protocol):
    """A method: a frozen dataclass whose fields are its settings."""

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], levels: Levels, noise: Noise
    ) -> Walk[EditResult]:
        """Walk one request down from the level of each ratio."""
        ...


class Benchmark(Protocol):
    """A source of edit requests, in a fixed order, with unique ids."""

    version: str
    """Changes whenever the requests would."""

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The requests, their images square at this resolution."""
        ...

    def __len__(self) -> int: ...


def finite(x: Tensor, what: str) -> Tensor:
    """`x` itself; a FloatingPointError that names `what` where it holds a NaN or an infinity."""
    if not torch.isfinite(x).all():
        raise FloatingPointError(f"{what} is not finite (NaN or infinity): try a wider dtype, float32 or bfloat16")
    return x
