"""Pictures that the model under test drew itself from structured prompts, one slot of which is then changed.

This mirrors the Imagen experiments of DiffEdit (Couairon et al., ICLR 2023, section 4): there Imagen drew the pictures,
here it is the model that the config names. What is drawn is kept, in a folder named by its settings and weights.
"""

import hashlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from pydantic import SkipValidation
from torch import Tensor

from diffedit.io.checks import settings
from diffedit.io.files import write
from diffedit.io.images import encode_png, open_image, resize_to, to_tensor
from diffedit.types import EditRequest
from eval.benchmarks.base import SubsetBenchmark
from eval.benchmarks.grammar import Grammar
from eval.benchmarks.subset import draw, take_subset

log = logging.getLogger(__name__)


@runtime_checkable
class ImageGenerator(Protocol):
    """A model that draws pictures from texts (`diffedit.text_to_image.TextToImage`)."""

    fingerprint: str  # names everything that decides what is drawn

    def __call__(self, texts: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
        """(id, picture in [0, 1]) for {id: text}, as they get ready; the id seeds the noise."""


@dataclass(frozen=True)
class GeneratedImage:
    """A picture of the cache, loaded when called: (3, resolution, resolution) in [0, 1]."""

    path: Path
    resolution: int

    def __call__(self) -> Float[Tensor, "3 resolution resolution"]:
        try:
            with open_image(self.path) as picture:
                return resize_to(to_tensor(picture.convert("RGB")), self.resolution)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}, and benchmark.generate_missing is false, as in every score: start the run again, it draws "
                "what benchmark.cache lacks"
            ) from error


class Change(NamedTuple):
    """One edit: the prompt of the picture, and the same one with another value in a slot."""

    id: str
    source: str
    target: str

    @property
    def input_name(self) -> str:
        """Of the picture to edit: by its prompt, so that grammars that share prompts share pictures."""
        return hash_text(self.source)

    @property
    def reference_name(self) -> str:
        """Of the picture of the target, drawn with noise that no input and no other edit has."""
        return f"{hash_text(self.target)}-{hash_text(self.source)}"


def hash_text(text: str) -> str:
    """What the picture of a text is called; it seeds the noise too."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@settings
class Generated(SubsetBenchmark):
    """One request for every prompt of a grammar, one slot of which is changed to another of its values.

    The slots take turns over a seeded permutation of the prompts, so that over any limit or range each is changed
    equally often, up to one. The new value is drawn, by a hash of the seed and the prompt, among those values that have
    not had their turn: of the requests that replace one and the same value, each other value comes equally often, up to
    one, over all and over any limit. Neither depends on limit and range.

    An id is the prompt's number in the grammar and the changed slot, such as `017-subject`. The source text is the
    prompt of the picture. The pictures of the requests, and those of `reference`, are drawn at the first use, and only
    those that the chosen requests need.

    Attributes:
        text_to_image: draws the pictures.
        grammar: the prompts.
        edits: names of the slots that may be changed; None takes all that have two values or more.
        cache: folder of the drawn pictures.
        generate_missing: draw what the cache does not hold; else its absence is an error when the picture is read.
    """

    text_to_image: SkipValidation[ImageGenerator]  # to look at its fingerprint would read all its weights
    grammar: Grammar
    edits: tuple[str, ...] | None = None
    cache: str = "runs/.generated"
    generate_missing: bool = True
    changes: list[Change] = field(init=False, repr=False, compare=False)

    path_keys = frozenset({"cache"})
    has_reference = True

    def __post_init__(self) -> None:
        slots = check_edits(self.grammar, self.edits)
        changes = {change.source: change for change in make_changes(self.grammar, slots, self.seed)}
        object.__setattr__(self, "changes", [changes[source] for source in self.choose(changes)])

    @property
    def fingerprint(self) -> str:
        return self.text_to_image.fingerprint

    def read_only(self) -> "Generated":
        """The same requests; a picture that is not there is an error when it is read."""
        return replace(self, generate_missing=False)

    def __len__(self) -> int:
        return len(self.changes)

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """Prompt to prompt; draws what the cache does not hold yet."""
        folder = self.fill_cache()
        for change in self.changes:
            image = GeneratedImage(folder / f"{change.input_name}.png", resolution)
            origin = f"{folder.name}/{image.path.name}"
            yield EditRequest(change.id, image, change.target, change.source, origin=origin)

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 resolution resolution"]]]:
        """("", picture): what the model makes of the target prompts, one for each request at the most.

        Their noise is not that of the inputs, and two requests of one target have two pictures. They come in the order
        of the permutation, so that a part of them is balanced as well.
        """
        folder = self.fill_cache()
        changes = {change.source: change for change in self.changes}
        for source in take_subset(changes, len(changes), self.seed)[:size]:
            yield "", GeneratedImage(folder / f"{changes[source].reference_name}.png", resolution)()

    def fill_cache(self) -> Path:
        """The folder of the pictures; inputs and references are drawn in one pass where they may be.

        Each is written whole as it gets ready, so that a kill loses none that is drawn.
        """
        folder = Path(self.cache) / self.fingerprint
        texts = {change.input_name: change.source for change in self.changes}
        texts |= {change.reference_name: change.target for change in self.changes}
        missing = {name: text for name, text in texts.items() if not is_whole_png(folder / f"{name}.png")}
        if self.generate_missing and missing:
            log.info("drawing %d of %d pictures into %s", len(missing), len(texts), folder)
            for name, image in self.text_to_image(missing):
                write(folder / f"{name}.png", encode_png(image))
        return folder


END = b"IEND\xaeB`\x82"  # of every whole PNG


def is_whole_png(path: Path) -> bool:
    """Whether a picture is there, and not cut short."""
    try:
        with path.open("rb") as file:
            file.seek(-len(END), os.SEEK_END)
            return file.read() == END
    except OSError:  # there is none, or it is shorter than that
        return False


def check_edits(grammar: Grammar, edits: Sequence[str] | None) -> list[str]:
    """The slots that may be changed.

    Raises:
        ValueError: none, one twice, or one that cannot be changed; the message lists those that can.
    """
    if edits is None:
        return grammar.variable
    wrong = sorted({name for name in edits if name not in grammar.variable or list(edits).count(name) > 1})
    if wrong or not edits:
        raise ValueError(
            f"benchmark.edits = {list(edits)}: {', '.join(map(repr, wrong)) or 'none given'}; "
            f"the slots that can be changed, each named once: {', '.join(grammar.variable)}"
        )
    return list(edits)


def make_changes(grammar: Grammar, slots: Sequence[str], seed: int) -> list[Change]:
    """The edit of every prompt, in the grammar's order."""
    prompts = {grammar.prompt(values): (i, values) for i, values in enumerate(grammar.combinations())}
    left: dict[tuple[str, str], list[str]] = {}  # values still to have their turn, by slot and value that they replace
    digits = len(str(len(grammar) - 1))
    changes = {}
    for turn, text in enumerate(take_subset(prompts, len(prompts), seed)):
        i, values = prompts[text]
        slot = slots[turn % len(slots)]
        waiting = left.setdefault((slot, values[slot]), [])
        if not waiting:
            waiting += [value for value in grammar.slots[slot] if value != values[slot]]
        value = min(waiting, key=partial(draw, seed, text, slot))
        waiting.remove(value)
        changes[i] = Change(f"{i:0{digits}d}-{slot}", text, grammar.prompt(values | {slot: value}))
    return [changes[i] for i in sorted(changes)]
