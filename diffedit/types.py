"""The words everything here is written in: requests, queries, answers, and the protocols. Read this first.

A method (`Editor`) is a generator for one request. It yields queries to the networks and is sent the answers; what it
returns is an `EditResult`. Who answers is not its business: `diffedit.engine.engine` batches the queries of many walks,
`diffedit.engine.queries.drive` runs one walk alone.

Everywhere: images are float tensors in [0, 1], channels first, RGB; a mask is 1 (white) where the picture may change;
a latent at a noise level is x = alpha * x0 + sigma * eps; level 0 is clean, level N (the number of steps) the noisiest.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

T = TypeVar("T")

Cond = Any
"""What a backbone makes of one text (an embedding, a class index)."""


class Level(NamedTuple):
    """One noise level, and the time label that the network is given there."""

    alpha: float
    sigma: float
    label: float


class Prediction(NamedTuple):
    """What the denoiser says of k latents, free of its parameterisation: x = alpha * x0 + sigma * eps."""

    x0: Float[Tensor, "k c h w"]
    eps: Float[Tensor, "k c h w"]


@dataclass(frozen=True)
class EditRequest:
    """One picture to edit. Loading happens inside the walk, so that a bad file fails its own request only."""

    id: str  # unique in its benchmark; names the files and seeds the noise
    image: Callable[[], Float[Tensor, "3 H W"]]
    target: str  # the text that the result shall show, Q in the paper
    source: str | None = None  # the text that describes the picture, R, where one is known
    mask: Callable[[], Float[Tensor, "1 H W"]] | None = None  # a given mask, where there is one
    oracle_mask: Callable[[], Float[Tensor, "1 H W"]] | None = None  # where the perfect edit differs, where it is known
    origin: str = ""  # names the picture and the mask; a run is not resumed with another
    label: str = ""  # target class, where the benchmark has classes
    counterfactual: Callable[[], Float[Tensor, "3 H W"]] | None = None  # the perfect edit, where it is known


@dataclass(frozen=True)
class Edit:
    """One edited picture; its decoding began at `level` = round(ratio * N)."""

    ratio: float
    level: int
    image: Float[Tensor, "3 H W"]
    sample: int = 0  # which of several it is, and what ranked it
    score: float | None = None


@dataclass(frozen=True)
class EditResult:
    """What a walk returns: an edit per ratio, in the order asked for, and what they share."""

    edits: list[Edit]
    mask: Bool[Tensor, "1 1 h w"] | None = None  # on the latent grid; None for a method without one
    contrast: Float[Tensor, "h w"] | None = None  # the raw map behind an inferred mask, before any rule
    pixels: Bool[Tensor, "1 H W"] | None = None  # the mask in pixels, where it was given so
    notes: Mapping[str, str | float] = field(default_factory=dict)  # small facts for the record
    samples: "Sequence[EditResult]" = ()  # all of them, where there are several; `edits` are the best of each ratio


@dataclass(frozen=True, eq=False)
class Encode:
    """Ask for the latent of one image: (1, c, h, w), the posterior's mode; `spread` adds its deviation as a row."""

    image: Float[Tensor, "3 H W"]
    spread: bool = False


@dataclass(frozen=True, eq=False)
class Decode:
    """Ask for the images of k latents: (k, 3, H, W), clipped to [0, 1]."""

    latents: Float[Tensor, "k c h w"]


@dataclass(frozen=True, eq=False)
class Embed:
    """Ask for the conditions of some texts: a list of `Cond`, one a text. "" is the unconditional."""

    texts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Predict:
    """Ask for a `Prediction` of k latents: k evaluations of the network.

    `edits`, for the accounting: the start level of the edit that each latent serves; empty where all are served.
    """

    x: Float[Tensor, "k c h w"]
    level: Level
    conds: tuple[Cond, ...]
    edits: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Call:
    """Ask for `fn(backbone)`, run alone and with gradients on: for what cannot be batched."""

    fn: Callable[["Backbone"], Any]


@dataclass(frozen=True, eq=False)
class BatchCall:
    """Ask for the answers of `fn(backbone, rows)`, one a row, with gradients on; rows of equal `fn` come together."""

    fn: Callable[["Backbone", Sequence[Any]], Sequence[Any]]
    rows: Sequence[Any]
    evaluations: int = 0  # of the denoiser in each row's answer, for the accounting
    edits: tuple[int, ...] = ()  # as in `Predict`


Query = Encode | Decode | Embed | Predict | Call | BatchCall
Walk = Generator[Query, Any, T]
"""A computation for one request that yields queries, is sent their answers and returns a T. `yield from` composes."""


@runtime_checkable
class Noise(Protocol):
    """Where a walk's randomness comes from (`diffedit.sampling.noise.RequestNoise`)."""

    def like(self, x: Tensor, purpose: str, count: int = 1) -> Tensor:
        """`count` standard normal samples of the shape x[0]; the same purpose always gives the same ones."""


@runtime_checkable
class Levels(Protocol):
    """The noise levels of a run (`diffedit.sampling.schedule.NoiseLevels`): N + 1 of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Level: ...

    def of(self, ratio: float) -> int:
        """The level at which an edit of this ratio starts."""

    def starts(self, ratios: Sequence[float]) -> list[int]:
        """The start levels of several ratios, all different."""


@runtime_checkable
class Backbone(Protocol):
    """The networks behind a walk. Every method answers a batch; no row's answer may depend on the other rows."""

    resolution: int  # side of the square images, in pixels

    def levels(self, steps: int) -> Levels:
        """`steps` noise levels above the clean one, on the model's own schedule."""

    def encode(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Latents of images in [0, 1]."""

    def posterior(self, images: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Latents and their standard deviation (0 where the encoder is certain)."""

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Images, clipped to [0, 1]."""

    def embed(self, texts: Sequence[str]) -> list[Cond]:
        """One condition a text."""

    def predict(self, x: Float[Tensor, "b c h w"], levels: Sequence[Level], conds: Sequence[Cond]) -> Prediction:
        """One noise estimate a row, each at its own level and under its own condition."""


@runtime_checkable
class Editor(Protocol):
    """A method: a frozen dataclass whose fields are its settings."""

    def __call__(self, request: EditRequest, ratios: Sequence[float], levels: Levels, noise: Noise) -> Walk[EditResult]:
        """Walk one request down from the level of each ratio."""


@runtime_checkable
class Benchmark(Protocol):
    """A source of edit requests with unique ids, in a fixed order."""

    version: str  # changes whenever the requests would

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The requests, their images square at this resolution."""

    def __len__(self) -> int: ...
