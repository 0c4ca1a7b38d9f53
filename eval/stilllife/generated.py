"""Pictures that the model under test drew itself from captions of Still Life, one phrase of which is then changed."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from eval.benchmarks.generated import Generated
from eval.stilllife.benchmarks import GroundTruth
from eval.stilllife.scene import ATTRIBUTES, FRUITS, TABLES, Scene

CAPTION = re.compile(r"(?:a (?P<vessel>\w+) of )?(?P<fruits>.+) on (?P<table>.+), (?P<wall>\w+) wall")
FIRST = 10**6  # of its split: apart from the scenes of the other benchmarks


@dataclass(frozen=True)
class StillLifeGenerated(Generated):
    """Pictures that the model draws from captions of Still Life (`benchmark/grammar=stilllife`).

    What a caption says is known, so Still Life's networks and verdicts serve; there is no exact mask or true_edit:
    the picture is the model's.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        dict(self.truths())  # prompts that are no captions are refused now

    def truths(self) -> Iterator[tuple[str, GroundTruth]]:
        """(id, what the prompt says before and after) in order."""
        yield from ((each.id, truth(each.source, each.target)) for each in self.changes)


def truth(source: str, target: str) -> GroundTruth:
    """What two captions say that differ in one attribute.

    Raises:
        ValueError: one is no caption, or they differ in something else.
    """
    before, after = described(source), described(target)
    differing = [name for name in ATTRIBUTES if getattr(before, name) != getattr(after, name)]
    if len(differing) != 1:
        raise ValueError(f"benchmark.grammar: {source!r} and {target!r} differ in {differing}, not in one thing")
    return GroundTruth(before, after, differing[0])


def described(caption: str) -> Scene:
    """The scene of a caption (`Scene.caption`), of no layout in particular: seed 0."""
    kinds, tables = ({said: name for name, said in words.items()} for words in (FRUITS, TABLES))
    try:
        said = CAPTION.fullmatch(caption).groupdict()
        fruits = tuple(kinds[each] for each in said["fruits"].split(" and "))
        return Scene(fruits, said["vessel"] or "none", tables[said["table"]], said["wall"], 0)
    except (AttributeError, KeyError, ValueError) as error:
        raise ValueError(f"benchmark.grammar: {caption!r} is no caption of Still Life") from error
