"""Pictures that the model under test drew itself from structured prompts, one slot of which is then changed.

This mirrors the Imagen experiments of DiffEdit (Couairon et al., ICLR 2023, section 4): there Imagen drew the pictures,
here it is the text_to_image that the config names. What is drawn is kept, in a folder named by the text_to_image and its weights.
"""

import hashlib
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from diffedit.io.files import write
from diffedit.io.images import open_image, png_bytes, resize_to, to_tensor
from diffedit.types import EditRequest
from eval.benchmarks.grammar import Grammar
from eval.benchmarks.subset import draw, subset

log = logging.getLogger(__name__)


@runtime_checkable
class DrawsPictures(Protocol):
    """Bootstrap pictures from texts (`diffedit.text_to_image.DrawsPictures`)."""

    fingerprint: str  # names everything that decides what is drawn

    def __call__(self, texts: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
        """(id, picture in [0, 1]) for {id: text}, as they get ready; the id seeds the noise."""


def missing(folder: Path, texts: Mapping[str, str]) -> dict[str, str]:
    """Those of {name: text} of which the folder holds no picture."""
    return {name: text for name, text in texts.items() if not (folder / f"{name}.png").exists()}


def keep(folder: Path, pictures: Iterable[tuple[str, Tensor]]) -> None:
    """Write pictures as they get ready, each whole or absent, so that a kill loses none that is drawn."""
    for name, image in pictures:
        write(folder / f"{name}.png", png_bytes(image))


def load(path: Path, resolution: int) -> Float[Tensor, "3 side side"]:
    """One drawn picture at this resolution."""
    with open_image(path) as picture:
        return resize_to(to_tensor(picture.convert("RGB")), resolution)


@dataclass(frozen=True)
class Drawn:
    """A picture of the cache, loaded when called: (3, side, side) in [0, 1]."""

    path: Path
    side: int

    def __call__(self) -> Float[Tensor, "3 side side"]:
        """Load it; a FileNotFoundError that says how it comes about."""
        try:
            return load(self.path, self.side)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}, and benchmark.generate_missing is false, as in every score: start the run again, it draws what "
                "benchmark.cache lacks"
            ) from error


class Change(NamedTuple):
    """One edit: the prompt of the picture, and the same one with another value in a slot."""

    id: str
    source: str
    target: str

    @property
    def input(self) -> str:
        """Names the picture to edit: by its prompt, so that grammars that share prompts share pictures."""
        return name_of(self.source)

    @property
    def other(self) -> str:
        """Names the picture of the target, drawn with noise that no input and no other edit has."""
        return f"{name_of(self.target)}-{name_of(self.source)}"


def name_of(text: str) -> str:
    """The file name of what is drawn from a text; it seeds the noise too."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Generated:
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
        limit: how many requests, the first of the permutation; None takes all in the grammar's order.
        range: (first, last + 1) of that permutation, instead of a limit.
        seed: of that permutation, and of the new values.
    """

    text_to_image: DrawsPictures
    grammar: Grammar
    edits: tuple[str, ...] | list[str] | None = None
    cache: str = "runs/.generated"
    generate_missing: bool = True
    limit: int | None = None
    range: tuple[int, int] | list[int] | None = None
    seed: int = 0
    changes: list[Change] = field(init=False, repr=False, compare=False)

    version = "1"

    def __post_init__(self) -> None:
        slots = check_edits(self.grammar, self.edits)
        known = {each.source: each for each in changed(self.grammar, slots, self.seed)}
        chosen = subset(known, self.limit, self.seed, self.range)
        object.__setattr__(self, "changes", [known[source] for source in chosen])

    def __len__(self) -> int:
        return len(self.changes)

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """Prompt to prompt; draws what the cache does not hold yet."""
        folder = self.filled()
        for each in self.changes:
            image, origin = Drawn(folder / f"{each.input}.png", resolution), f"{folder.name}/{each.input}.png"
            yield EditRequest(each.id, image, each.target, each.source, origin=origin)

    def reference(self, size: int, resolution: int) -> Iterator[tuple[str, Float[Tensor, "3 side side"]]]:
        """("", picture): what the text_to_image makes of the target prompts, one for each request at the most.

        Their noise is not that of the inputs, and two requests of one target have two pictures. They come in the order
        of the permutation, so that a part of them is balanced as well.
        """
        folder, known = self.filled(), {each.source: each for each in self.changes}
        for source in subset(known, len(known), self.seed)[:size]:
            yield "", Drawn(folder / f"{known[source].other}.png", resolution)()

    def filled(self) -> Path:
        """The folder of the pictures; inputs and references are drawn in one pass where they may be."""
        folder = Path(self.cache) / self.text_to_image.fingerprint
        texts = {each.input: each.source for each in self.changes}
        texts |= {each.other: each.target for each in self.changes}
        if self.generate_missing and (todo := missing(folder, texts)):
            log.info("drawing %d of %d pictures into %s", len(todo), len(texts), folder)
            keep(folder, self.text_to_image(todo))
        return folder


def check_edits(grammar: Grammar, edits: Sequence[str] | None) -> list[str]:
    """The slots that may be changed.

    Raises:
        ValueError: none, one twice, or one that cannot be changed; the message lists those that can.
    """
    if edits is None:
        return grammar.variable
    edits, known = list(edits), ", ".join(grammar.variable)
    wrong = sorted({name for name in edits if name not in grammar.variable or edits.count(name) > 1})
    if wrong or not edits:
        said = ", ".join(map(repr, wrong)) or "none given"
        raise ValueError(f"benchmark.edits = {edits}: {said}; the slots that can be changed, each named once: {known}")
    return edits


def changed(grammar: Grammar, edits: Sequence[str], seed: int) -> list[Change]:
    """The edit of every prompt, in the grammar's order."""
    prompts = {grammar.prompt(values): (i, values) for i, values in enumerate(grammar.combinations())}
    left: dict[tuple[str, str], list[str]] = {}  # values still to have their turn, by slot and value that they replace
    found, digits = {}, len(str(len(grammar) - 1))
    for place, text in enumerate(subset(prompts, len(prompts), seed)):
        (i, values), slot = prompts[text], edits[place % len(edits)]
        waiting = left.setdefault((slot, values[slot]), [])
        if not waiting:
            waiting += [value for value in grammar.slots[slot] if value != values[slot]]
        value = min(waiting, key=partial(draw, seed, text, slot))
        waiting.remove(value)
        found[i] = Change(f"{i:0{digits}d}-{slot}", text, grammar.prompt(values | {slot: value}))
    return [found[i] for i in sorted(found)]
