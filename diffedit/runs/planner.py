"""Runs the methods' programs with the answers left out, and counts what they ask for; and times a few calls.

Each query gets zeros of the right shape, so that nothing is evaluated but the texts, whose conditions are part of what
work is shared by.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from diffedit.engine.engine import BatchSizes, LiveProgram
from diffedit.engine.queries import Shape, call_network, find_shape, split
from diffedit.engine.shared import SharedWork, share_encoding
from diffedit.io.device import find_device, wait_for
from diffedit.runs.take_over import Count, add_cost
from diffedit.types import (
    Backbone,
    Credit,
    Custom,
    CustomBatch,
    Decode,
    EditResult,
    Embed,
    Encode,
    Keep,
    Level,
    Predict,
    Prediction,
    Program,
    Query,
    Recall,
)

REPEATS = 3  # of a call that is timed
LARGE = 10**8  # weights of networks that are not timed on a CPU: a call of Stable Diffusion takes a minute there
CROP = 8  # of a picture's side this part is encoded where networks are large, to see what a latent is


@runtime_checkable
class Planned(Protocol):
    """What the programs that were looked at ask for, as `diffedit.runs.plan.Plan` has it."""

    made: Counter[str]
    recalled: Counter[str]
    pictures: Counter[str]


class Deadline:
    """How long something may take.

    Args:
        seconds: from now.
        clock: tells the time, in seconds.
    """

    def __init__(self, seconds: float, clock: Any = None) -> None:
        self.clock = clock or time.monotonic
        self.end = self.clock() + seconds

    def left(self) -> float:
        """Seconds until then; below zero afterwards."""
        return self.end - self.clock()


class Planner:
    """Answers queries without evaluating anything but texts.

    Args:
        backbone: the networks.
        batch: rows of a call.
        shared: what earlier runs left; None where nothing is shared.
    """

    def __init__(self, backbone: Backbone, batch: BatchSizes, shared: SharedWork[LiveProgram] | None) -> None:
        self.backbone, self.batch, self.shared = backbone, batch, shared
        self.conds: dict[str, Any] = {}
        self.planned: dict[str, Sequence[Any]] = {}  # lists that a program before would have made
        self.examples: dict[tuple[str, Shape], Any] = {}  # of a method's own functions, an answer for each shape
        self.latents: dict[Shape, Tensor] = {}  # one for each shape of a picture
        self.shapes: dict[Shape, Shape] = {}  # of pictures by those of their latents
        self.seen: Counter[Shape] = Counter()  # pictures that were looked at, by shape

    @torch.no_grad()
    def look(self, program: Program[EditResult], plan: "Planned") -> None:
        """Run one program to its end; a ValueError where it asks what cannot be left out."""
        program = share_encoding(program) if self.shared is not None else program
        answer, count = None, Counter()
        while True:
            try:
                query = program.send(answer)
            except StopIteration:
                break
            if isinstance(query, Custom):  # a ranking, a fit of the decoder: what comes after all evaluations
                program.close()
                break
            answer = self.answer(query, count, plan)
        for (purpose, _), evaluations in count.items():
            plan.made[purpose] += evaluations

    def answer(self, query: Query, count: Count, plan: "Planned") -> Any:
        """Zeros for the answer of a network; what is known for a `Recall`."""
        match query:
            case Recall():
                return self.recall(query)
            case Keep():
                if self.shared is not None and (name := self.shared.name(query.recall)) is not None:
                    self.planned[name] = [query.items[-1]] * len(query.items)  # nobody looks at what is in it
            case Credit():
                plan.recalled[query.purpose] += sum(query.evaluations.values())
            case Embed():
                return [self.embed(text) for text in query.texts]
            case Encode():
                plan.pictures["to encode"] += 1
                return self.make_latent(query)
            case Decode():
                plan.pictures["to decode"] += len(query.latents)
                return query.latents.new_zeros(len(query.latents), *self.find_picture(query.latents))
            case Predict():
                add_cost(query, count)
                return Prediction(torch.zeros_like(query.x), torch.zeros_like(query.x))
            case CustomBatch():
                add_cost(query, count)
                return [self.ask_once(query)] * len(query.rows)
        return None

    def recall(self, query: Recall) -> Sequence[Any]:
        """What is in the cache, or would be by then."""
        if self.shared is None or (name := self.shared.name(query)) is None:
            return []
        return self.planned.get(name) or self.shared.look_up(name, query)

    def ask_once(self, query: CustomBatch) -> Any:
        """An answer of a method's own function: that to the first row, for all of its shape that follow."""
        row = split(query)[0]
        name = getattr(query.fn, "__qualname__", repr(query.fn)), find_shape(row)
        if name not in self.examples:
            self.examples[name] = call_network(self.backbone, query.fn, [row])[0]
        return self.examples[name]

    def embed(self, text: str) -> Any:
        """The condition of a text, as the engine asks for it."""
        if text not in self.conds:
            known = self.shared.find_text(text) if self.shared is not None else None
            count = 1 if self.shared is None else self.batch.embed  # what is shared is known by its last bits
            self.conds[text] = call_network(self.backbone, Embed, [(text,)] * count)[0] if known is None else known
        return self.conds[text]

    def make_latent(self, query: Encode) -> Tensor:
        """Noise of the picture's own, so that no two pictures are taken for one, in the shape of a latent."""
        picture = tuple(query.image.shape)
        if picture not in self.latents:
            self.latents[picture] = find_latent(self.backbone, query.image)
            self.shapes[tuple(self.latents[picture].shape[1:])] = picture
        latent = self.latents[picture]
        self.seen[picture] += 1
        seed = int(query.image.double().sum().item() * 1e6) % 2**31
        draw = torch.Generator().manual_seed(seed)
        shape = (1 + query.spread, *latent.shape[1:])
        return torch.randn(shape, generator=draw).to(latent)

    def find_picture(self, latents: Tensor) -> Shape:
        """The shape of the pictures of some latents, which may have been encoded by an earlier run."""
        height, width = latents.shape[-2:]
        if (known := self.shapes.get(tuple(latents.shape[1:]))) is not None:
            return known
        side = self.backbone.resolution
        if height == width:
            return (3, side, side)
        places = find_latent(self.backbone, torch.zeros(3, side, side)).shape[-1]
        return self.shapes.setdefault(tuple(latents.shape[1:]), (3, height * side // places, width * side // places))

    def count_pixels(self) -> float:
        """Of a picture that was looked at, in the mean; of a square of the backbone's resolution where none was."""
        total = sum(count * shape[-2] * shape[-1] for shape, count in self.seen.items())
        return total / self.seen.total() if total else self.backbone.resolution**2

    def count_places(self) -> float:
        """Of a contrast map of these pictures, in the mean; no more than pixels where none was looked at."""
        latents = {shape: latent.shape[-2] * latent.shape[-1] for shape, latent in self.latents.items()}
        total = sum(count * latents[shape] for shape, count in self.seen.items())
        return total / self.seen.total() if total else self.backbone.resolution**2

    def measure(self, plan: "Planned", deadline: Deadline) -> float | None:
        """Seconds of all calls, from the time of a few of each kind; None where that would take too long here.

        Of pictures of several shapes, those of the one that is most frequent are timed, as if time went by pixels.
        """
        if not (plan.made.total() or plan.pictures.total()) or not self.latents:
            return 0.0
        if not can_measure(self.backbone):
            return None
        text, level = next(iter(self.conds.values()), None), Level(0.8, 0.6, 500)
        ((picture, _),) = self.seen.most_common(1)
        image, latent = torch.zeros(picture), self.latents[picture][0]
        scale = self.count_pixels() / (picture[-2] * picture[-1])
        work = {
            Predict: (plan.made.total(), (latent, level, text), self.batch.predict),
            Encode: (plan.pictures["to encode"], (image, False), self.batch.encode),
            Decode: (plan.pictures["to decode"], (latent,), self.batch.decode),
        }
        asked = {kind: parts for kind, parts in work.items() if parts[0]}
        return scale * sum(
            rows / size * time_call(self.backbone, kind, row, size, deadline)
            for kind, (rows, row, size) in asked.items()
        )


def find_latent(backbone: Backbone, image: Tensor) -> Tensor:
    """A latent of the shape and kind that this picture has, (1, c, h, w).

    Of large networks on a CPU, where a picture takes long, that of a part of it, made larger.
    """
    if can_measure(backbone):
        return call_network(backbone, Encode, [(image, False)])[0]
    grain = getattr(backbone, "grain", None) or 1
    side = max(min(image.shape[-2:]) // CROP // grain, 1) * grain
    small = call_network(backbone, Encode, [(image[..., :side, :side].contiguous(), False)])[0]
    height, width = (length * small.shape[-1] // side for length in image.shape[-2:])
    return small.repeat(1, 1, -(-height // small.shape[-2]), -(-width // small.shape[-1]))[..., :height, :width]


def can_measure(backbone: Backbone) -> bool:
    """Whether a few calls take seconds: on an accelerator, or of small networks that are not to be compiled first."""
    networks = {id(part): part for part in getattr(backbone, "__dict__", {}).values() if isinstance(part, nn.Module)}
    if any(hasattr(network, "_orig_mod") for network in networks.values()):
        return False
    count = sum(weight.numel() for network in networks.values() for weight in network.parameters())
    return find_device(backbone).type != "cpu" or count < LARGE


def time_call(backbone: Backbone, kind: Any, row: tuple[Any, ...], size: int, deadline: Deadline) -> float:
    """Seconds of one call of this size: the least of a few, after one that is not counted.

    Where time is short, of fewer, or so many times that of a call of one row.
    """
    one = time_rows(backbone, kind, [row])
    if 2 * size * one > deadline.left():
        return size * one
    seconds = [time_rows(backbone, kind, [row] * size)]
    while len(seconds) <= REPEATS and deadline.left() > 0:
        seconds.append(time_rows(backbone, kind, [row] * size))
    return min(seconds[1:] or seconds)


def time_rows(backbone: Backbone, kind: Any, rows: Sequence[tuple[Any, ...]]) -> float:
    """Seconds of a call; a GPU has finished."""
    began = time.perf_counter()
    call_network(backbone, kind, rows)
    wait_for(find_device(backbone))
    return time.perf_counter() - began
