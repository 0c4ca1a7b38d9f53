"""Pictures that the model under test drew itself from captions of Still Life, one phrase of which is then changed."""

import re
from collections.abc import Iterator
from dataclasses import replace

from diffedit.io.checks import settings
from diffedit.types import EditRequest
from eval.benchmarks.generated import Generated
from eval.stilllife.benchmarks import GroundTruth
from eval.stilllife.scene import ATTRIBUTES, FRUITS, TABLES, Scene

CAPTION = re.compile(r"(?:a (?P<vessel>\w+) of )?(?P<fruits>.+) on (?P<table>.+), (?P<wall>\w+) wall")
KINDS = {plural: kind for kind, plural in FRUITS.items()}
SURFACES = {phrase: table for table, phrase in TABLES.items()}


@settings
class StillLifeGenerated(Generated):
    """Pictures that the model draws from captions of Still Life (`benchmark/grammar=stilllife`).

    What a caption says is known, so Still Life's networks and verdicts serve; there is no exact mask or true edit:
    the picture is the model's.
    """

    domain = "stilllife"

    def __post_init__(self) -> None:
        super().__post_init__()
        dict(self.ground_truths())  # prompts that are no captions are refused now

    def ground_truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """(id, what the prompt says before and after) in the order of the requests."""
        yield from ((change.id, compare_captions(change.source, change.target)) for change in self.changes)

    def requests(self, resolution: int) -> Iterator[EditRequest]:
        """Prompt to prompt; draws what the cache does not hold yet."""
        for request, (_, truth) in zip(super().requests(resolution), self.ground_truths(), strict=True):
            yield replace(request, ground_truth=truth)


def compare_captions(source: str, target: str) -> GroundTruth:
    """What two captions say that differ in one attribute.

    Raises:
        ValueError: one is no caption, or they differ in something else.
    """
    before, after = parse_caption(source), parse_caption(target)
    differing = [name for name in ATTRIBUTES if getattr(before, name) != getattr(after, name)]
    if len(differing) != 1:
        raise ValueError(f"benchmark.grammar: {source!r} and {target!r} differ in {differing}, not in one thing")
    return GroundTruth(before, after, differing[0])


def parse_caption(caption: str) -> Scene:
    """The scene of a caption (`Scene.caption`), of no layout in particular: seed 0."""
    try:
        phrases = CAPTION.fullmatch(caption).groupdict()
        fruits = tuple(KINDS[plural] for plural in phrases["fruits"].split(" and "))
        return Scene(fruits, phrases["vessel"] or "none", SURFACES[phrases["table"]], phrases["wall"], 0)
    except (AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"benchmark.grammar: {caption!r} is no caption of Still Life") from error
