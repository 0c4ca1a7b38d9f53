"""What a still life is made of: a scene, its sentence, and the edits that change one thing in it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

# One fruit, and how a sentence says several of it.
FRUITS = {
    "apple": "apples",
    "pear": "pears",
    "plum": "plums",
    "orange": "oranges",
    "lemon": "lemons",
    "watermelon": "watermelons",
    "grape": "grapes",
    "cherry": "cherries",
    "strawberry": "strawberries",
    "banana": "bananas",
    "carrot": "carrots",
    "eggplant": "eggplants",
}
VESSELS = ("bowl", "plate", "basket", "none")
TABLES = {
    "wooden": "a wooden table",
    "white": "a white tablecloth",
    "blue": "a blue striped cloth",
    "red": "a red checkered cloth",
}
WALLS = ("gray", "yellow", "green", "dark")

# Look-alikes, as siblings in WordNet are in the ImageNet protocol: a class is edited into another of its group.
GROUPS = (
    ("apple", "pear", "plum"),
    ("orange", "lemon", "watermelon"),
    ("grape", "cherry", "strawberry"),
    ("banana", "carrot", "eggplant"),
)

ATTRIBUTES = {"fruits": tuple(FRUITS), "vessel": VESSELS, "table": tuple(TABLES), "wall": WALLS}

CHOICES = ("vessel", "table", "wall")  # one value each; fruit may be two

# Seeds of the splits: disjoint, and far more than are ever used.
SPLITS = {"train": range(0, 10**8), "validation": range(10**8, 2 * 10**8), "test": range(2 * 10**8, 3 * 10**8)}


@dataclass(frozen=True)
class Framing:
    """What of a layout is said beside the seed.

    Attributes:
        scale: of all that stands on the table.
        horizon: where the table begins, from above, in 256ths of the picture; None: as the seed has it.
        once: of two kinds of fruit the second lies there once, in front; else they take turns.
        margins: pixels of wall and table to the left and right, and above and below, of the square with the still life.
    """

    scale: float = 1.0
    horizon: int | None = None
    once: bool = False
    margins: tuple[int, int] = (0, 0)


USUAL = Framing()


@dataclass(frozen=True)
class Scene:
    """A still life; `seed` fixes the layout, and nothing about it depends on the other fields but `framing`.

    Attributes:
        fruits: one or two kinds.
        vessel: what they lie in.
        table: what that stands on.
        wall: its colour.
        seed: of the layout: where things are, how many, how they are turned, the light.
        framing: what is not as the seed has it.
    """

    fruits: tuple[str, ...]
    vessel: str
    table: str
    wall: str
    seed: int
    framing: Framing = USUAL

    def __post_init__(self) -> None:
        values_of = {"fruits": self.fruits, "vessel": (self.vessel,), "table": (self.table,), "wall": (self.wall,)}
        for name, values in values_of.items():
            for value in values:
                if value not in ATTRIBUTES[name]:
                    raise ValueError(f"{name} {value!r} is none of {', '.join(ATTRIBUTES[name])}")
        if not 1 <= len(set(self.fruits)) == len(self.fruits) <= 2:
            raise ValueError(f"a scene has one or two different kinds of fruit, not {self.fruits}")

    def caption(self) -> str:
        """The sentence, such as "a bowl of apples and plums on a wooden table, gray wall"."""
        fruits = " and ".join(FRUITS[kind] for kind in self.fruits)
        what = fruits if self.vessel == "none" else f"a {self.vessel} of {fruits}"
        return f"{what} on {TABLES[self.table]}, {self.wall} wall"

    def phrases(self) -> dict[str, str]:
        """The parts of the sentence that stand for each attribute."""
        return {
            "fruits": " and ".join(FRUITS[kind] for kind in self.fruits),
            "vessel": "" if self.vessel == "none" else f"a {self.vessel} of",
            "table": TABLES[self.table],
            "wall": f"{self.wall} wall",
        }


def make_generator(seed: int, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose of a seed, so that no draw shifts another."""
    return np.random.default_rng([seed, *purpose.encode()])


def sample(seed: int, two_kinds: float = 0.3) -> Scene:
    """A scene of this seed, all attributes uniform; two kinds of fruit with this probability."""
    rng = make_generator(seed, "scene")
    count = 2 if rng.random() < two_kinds else 1
    fruits = tuple(str(kind) for kind in rng.choice(list(FRUITS), count, replace=False))
    return Scene(fruits, **{name: str(rng.choice(ATTRIBUTES[name])) for name in CHOICES}, seed=seed)


def change(scene: Scene, attribute: str, value: str, index: int = 0) -> Scene:
    """The scene with one attribute changed and the same seed: the true edit.

    Args:
        scene: the input.
        attribute: `fruits`, `vessel`, `table` or `wall`.
        value: its new value; for `fruits` the kind that replaces one of the scene's.
        index: which kind of two is changed.
    """
    if attribute == "fruits":
        fruits = tuple(value if i == index else kind for i, kind in enumerate(scene.fruits))
        return replace(scene, fruits=fruits)
    return replace(scene, **{attribute: value})


def find_siblings(kind: str) -> tuple[str, ...]:
    """The look-alikes of a fruit."""
    return next(tuple(sibling for sibling in group if sibling != kind) for group in GROUPS if kind in group)


def list_changes(scene: Scene) -> Iterator[tuple[str, Scene]]:
    """Every edit of one phrase: (attribute, the scene after it)."""
    for i, kind in enumerate(scene.fruits):
        for value in FRUITS:
            if value != kind and value not in scene.fruits:
                yield "fruits", change(scene, "fruits", value, i)
    for attribute in CHOICES:
        for value in ATTRIBUTES[attribute]:
            if value != getattr(scene, attribute):
                yield attribute, change(scene, attribute, value)
