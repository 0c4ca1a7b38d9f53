"""The words everything here is written in: requests, variants, queries, and the protocols. Read this first.

A method (`Editor`) is a generator for one request: a `Program`. It yields queries to the networks and is sent the
answers; what it returns is an `EditResult`. Who answers is not its business: `diffedit.engine` batches the queries of
many programs, `diffedit.engine.queries.run_alone` runs a single one.

Everywhere: images are float tensors in [0, 1], channels first, RGB; a mask is 1 (white) where the picture may change;
a latent at a noise level is x = alpha * x0 + sigma * eps; level 0 is clean, level N (the number of steps) the noisiest.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor, nn

T = TypeVar("T")

Cond = Any
"""What a backbone makes of one text: a tensor, or a tuple of what its family needs. Nobody else looks into it."""


# ------------------------------------------------------------------------------------------------ requests and results


@dataclass(frozen=True)
class ClassName:
    """A class of pictures, as a benchmark knows it. Class-conditional backbones find it in a list of their own.

    Attributes:
        name: in words.
        number: its place in the benchmark's list; None where there is no list.
        wnid: WordNet's id, where it has one.
        word: what the backbone of a run is told for it; its name for one whose conditions are texts.
    """

    name: str
    number: int | None = None
    wnid: str = ""
    word: str = ""

    def __str__(self) -> str:
        return self.word or self.name


@dataclass(frozen=True)
class EditRequest:
    """One picture to edit. Loading happens inside the program, so that a bad file fails its own request only."""

    id: str  # unique in its benchmark; names the files and seeds the noise
    image: Callable[[], Float[Tensor, "3 H W"]]
    target: str  # the text that the result shall show, Q in the paper
    source: str | None = None  # the text that describes the picture, R, where one is known
    mask: Callable[[], Float[Tensor, "1 H W"]] | None = None  # a given mask, where there is one
    true_mask: Callable[[], Float[Tensor, "1 H W"]] | None = None  # where the true edit differs, where it is known
    origin: str = ""  # names the picture and the mask; a run is not resumed with another
    label: str = ""  # target class, where the benchmark has classes
    true_edit: Callable[[], Float[Tensor, "3 H W"]] | None = None  # the counterfactual, where it is known
    ground_truth: Any = None  # what else the benchmark knows of the edit, for metrics of its own domain
    extras: Mapping[str, Any] = field(default_factory=dict)  # a benchmark's own fields, for methods that know them
    retrieved: Callable[[], Float[Tensor, "3 H W"]] | None = None  # another real picture, of what the target says
    target_class: ClassName | None = None  # what class the target asks for, where the benchmark has classes
    source_class: ClassName | None = None  # what class the picture is of
    caption: str | None = None  # the target as a text, where a class stands in `target`: for networks that read texts

    @property
    def target_text(self) -> str:
        """The target as a text, whatever the backbone is told."""
        return self.target if self.caption is None else self.caption


@dataclass(frozen=True)
class Variant:
    """What was made of a picture: an edit at one strength of its method, or nothing (`UNEDITED`).

    Its text, `ratio=0.5` or `unedited`, is its key in records and tables.

    Attributes:
        strength: how far the method goes; None where it has no such number.
        name: what the method calls its strength: `ratio`, the encoding ratio r, for DiffEdit and its baselines.
    """

    strength: float | None
    name: str = "ratio"

    def __str__(self) -> str:
        return self.name if self.strength is None else f"{self.name}={self.strength!r}"

    @property
    def folder(self) -> str:
        """Of its pictures in a run directory: the number alone for a ratio, short where that is the number itself."""
        if self.name != "ratio":
            return str(self)
        short = f"{self.strength:g}"
        return short if float(short) == self.strength else repr(self.strength)

    @classmethod
    def parse(cls, text: str) -> "Variant":
        """The variant of a text that `str` gave."""
        name, equals, strength = text.partition("=")
        return cls(float(strength) if equals else None, name)


UNEDITED = Variant(None, "unedited")


@dataclass(frozen=True)
class Edit:
    """One edited picture; its decoding began at `level` = round(ratio * N)."""

    variant: Variant
    level: int
    image: Float[Tensor, "3 H W"]
    sample: int = 0  # which of several it is, and what ranked it
    score: float | None = None


@dataclass(frozen=True)
class EditResult:
    """What a program returns: an edit a strength, in the order asked for, and what they share."""

    edits: list[Edit]
    mask: Bool[Tensor, "1 1 h w"] | None = None  # on the latent grid; None for a method without one
    contrast_map: Float[Tensor, "h w"] | None = None  # the raw map behind an inferred mask, before any rule
    pixel_mask: Bool[Tensor, "1 H W"] | None = None  # the mask in pixels, where it was given so
    metadata: Mapping[str, str | float] = field(default_factory=dict)  # small facts for the record
    samples: "Sequence[EditResult]" = ()  # all of them, where there are several; `edits` are the best of each strength


# ------------------------------------------------------------------------------------------------------------- queries


class Level(NamedTuple):
    """One noise level, and the timestep that the network is given there."""

    alpha: float
    sigma: float
    timestep: float


class Prediction(NamedTuple):
    """What the denoiser estimates of k latents, free of its parameterisation: x = alpha * x0 + sigma * eps."""

    x0: Float[Tensor, "k c h w"]
    eps: Float[Tensor, "k c h w"]


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
    `purpose`, too: what the evaluations are counted as.
    """

    x: Float[Tensor, "k c h w"]
    level: Level
    conds: tuple[Cond, ...]
    edits: tuple[int, ...] = ()
    purpose: str = "decoding"


@dataclass(frozen=True, eq=False)
class Custom:
    """Ask for `fn(backbone)`, run alone and with gradients on: for what cannot be batched."""

    fn: Callable[["Backbone"], Any]


@dataclass(frozen=True, eq=False)
class CustomBatch:
    """Ask for the answers of `fn(backbone, rows)`, one a row, with gradients on; rows of equal `fn` come together.

    Where rows are tuples of tensors, those whose first tensors have the same shape.
    """

    fn: Callable[["Backbone", Sequence[Any]], Sequence[Any]]
    rows: Sequence[Any]
    evaluations: int = 0  # of the denoiser in each row's answer, for the accounting
    edits: tuple[int, ...] = ()  # as in `Predict`


@dataclass(frozen=True, eq=False)
class Recall:
    """Ask what others have made under a key: a list, [] for nothing. Who is given nothing is the one to make it.

    `key` is all that decides the list: texts, numbers, tensors by their content, and tuples of these.
    """

    purpose: str
    key: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Keep:
    """Hand over the list of a `Recall`: tensors, or dictionaries of them. It may grow later, and never changes.

    Who asked hands it over also where he added nothing: others wait until then.
    """

    recall: Recall
    items: Sequence[Any]


@dataclass(frozen=True, eq=False)
class Credit:
    """Count evaluations that were not made because their answers were recalled, by start level as in `Predict.edits`.

    So the cost of an edit in tables is what it costs by itself, whatever it was computed beside.
    """

    purpose: str
    evaluations: Mapping[int | None, int]


Query = Encode | Decode | Embed | Predict | Custom | CustomBatch | Recall | Keep | Credit
Program = Generator[Query, Any, T]
"""A computation for one request that yields queries, is sent their answers and returns a T. `yield from` composes."""

NO_QUERIES: tuple[Query, ...] = ()
"""`yield from NO_QUERIES` makes a program of a function that asks nothing."""


# ----------------------------------------------------------------------------------------------------------- protocols


@runtime_checkable
class Noise(Protocol):
    """Where a program's randomness comes from (`diffedit.sampling.noise.RequestNoise`)."""

    def randn_like(self, x: Tensor, purpose: str, count: int = 1) -> Tensor:
        """`count` standard normal samples of the shape x[0]; the same purpose always gives the same ones."""


@runtime_checkable
class Schedule(Protocol):
    """The noise levels of a run (`diffedit.sampling.schedule.NoiseSchedule`): N + 1 of them."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> Level: ...

    def find_level(self, ratio: float) -> int:
        """The level at which an edit of this ratio starts."""

    def start_levels(self, ratios: Sequence[float]) -> list[int]:
        """The start levels of several ratios, all different."""


@runtime_checkable
class Backbone(Protocol):
    """The networks behind a program. Every method answers a batch; no row's answer may depend on the other rows."""

    resolution: int  # side of the square images that it was made for, in pixels
    grain: int | None  # what both sides of other images have to be multiples of; None where it takes squares alone
    fingerprint: Mapping[str, str]  # a hash of each part: a run is not resumed with another
    decoder: nn.Module | None  # what `render` runs; None where there is none to be trained
    conditions: Literal["text", "class"]  # what `embed` takes; see `diffedit.conditions`

    def schedule(self, steps: int) -> Schedule:
        """`steps` noise levels above the clean one, on the model's own schedule."""

    def encode(self, images: Float[Tensor, "b 3 H W"]) -> Float[Tensor, "b c h w"]:
        """Latents of images in [0, 1]."""

    def posterior(self, images: Float[Tensor, "b 3 H W"]) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b c h w"]]:
        """Latents and their standard deviation (0 where the encoder is certain)."""

    def decode(self, latents: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 H W"]:
        """Images, clipped to [0, 1]."""

    def render(
        self, latents: Float[Tensor, "b c h w"], weights: Mapping[str, Tensor] | None = None
    ) -> Float[Tensor, "b 3 H W"]:
        """Images, not clipped, differentiable, by these weights of the decoder (None: its own)."""

    def embed(self, texts: Sequence[str]) -> list[Cond]:
        """One condition a text."""

    def predict(self, x: Float[Tensor, "b c h w"], levels: Sequence[Level], conds: Sequence[Cond]) -> Prediction:
        """One noise estimate a row, each at its own level and under its own condition."""


@runtime_checkable
class Network(Protocol):
    """A frozen network beside the backbone."""

    hash: str  # names its weights and whatever else decides what it answers


@runtime_checkable
class Editor(Protocol):
    """A method: a frozen dataclass whose fields are its settings. `BaseEditor` has the usual declarations."""

    inputs: Collection[str]  # fields of a request that it calls, to be loaded ahead
    networks: tuple[Network, ...]  # beside the backbone: part of a run's identity
    has_mask: bool  # whether its results have one
    is_bound: bool  # floor or ceiling of a table rather than a method
    strength_name: str  # what the numbers that it is called with are: `ratio`

    def __call__(
        self, request: EditRequest, ratios: Sequence[float], schedule: Schedule, noise: Noise
    ) -> Program[EditResult]:
        """Edit one request at each strength."""


class BaseEditor:
    """What most editors declare: they read the picture, ask no other network, and have no mask."""

    inputs: Collection[str] = frozenset({"image"})
    networks: tuple[Network, ...] = ()
    has_mask: bool = False
    is_bound: bool = False
    strength_name: str = "ratio"


@runtime_checkable
class Benchmark(Protocol):
    """A source of edit requests with unique ids, in a fixed order. `BaseBenchmark` has what most declare."""

    version: str  # changes whenever the requests would
    domain: str | None  # what its pictures are of, where some networks know nothing else
    path_keys: Collection[str]  # settings that say where files lie, which runs' names leave out
    fingerprint: str  # names what decides the pictures beside the settings (a model that draws them); "" for nothing

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """The requests, their images square at this resolution unless the benchmark says that it `is_square` not."""

    def __len__(self) -> int: ...
