"""Prompts of one structure: a sentence with slots, and the values of each slot."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from string import Formatter
from typing import Any


@dataclass(frozen=True)
class Grammar:
    """Every combination of the values of some slots, in one sentence.

    White space in a prompt becomes single blanks.

    Attributes:
        template: the sentence, with a {name} for each slot.
        slots: the values of each.

    Raises:
        ValueError: the template and the slots do not fit; a slot without values, a value that is blank or there twice;
            nothing that could be changed; two combinations that give the same prompt. The message names the key.
    """

    template: str
    slots: Mapping[str, Sequence[Any]]  # of texts: a yaml makes a bool of `no`, which is refused below

    def __post_init__(self) -> None:
        named = fields_of(self.template)
        lacking, idle = sorted(named - set(self.slots)), [name for name in self.slots if name not in named]
        if lacking or idle:
            faults = (("no slot for", lacking), ("no place for the slot", idle))
            said = "; ".join(f"{word} {', '.join(map(repr, names))}" for word, names in faults if names)
            raise ValueError(f"benchmark.grammar.template = {self.template!r}: {said} of benchmark.grammar.slots")
        for name, values in self.slots.items():
            check_values(f"benchmark.grammar.slots.{name}", values)
        if not self.variable:
            raise ValueError("benchmark.grammar.slots: one value in each: nothing can be changed into something else")
        first: dict[str, Mapping[str, str]] = {}
        for values in self.combinations():
            if (other := first.setdefault(self.prompt(values), values)) is not values:
                said = f"{other} and {values} give the same prompt"
                raise ValueError(f"benchmark.grammar.slots: {said} {self.prompt(values)!r}")

    def __len__(self) -> int:
        return prod(map(len, self.slots.values()))

    @property
    def variable(self) -> list[str]:
        """The slots with two values or more."""
        return [name for name, values in self.slots.items() if len(values) > 1]

    def combinations(self) -> Iterator[dict[str, str]]:
        """{slot: value} of every prompt; the last slot turns fastest."""
        return (dict(zip(self.slots, values, strict=True)) for values in product(*self.slots.values()))

    def prompt(self, values: Mapping[str, str]) -> str:
        """The sentence of one combination."""
        return plain(self.template.format_map(values))


def plain(text: str) -> str:
    """With single blanks for all white space, and none around."""
    return " ".join(text.split())


def fields_of(template: str) -> set[str]:
    """The names in a template's braces."""
    try:
        found = [each for each in Formatter().parse(template) if each[1] is not None]
    except ValueError as error:
        raise ValueError(f"benchmark.grammar.template = {template!r}: {error}") from error
    if odd := [name for _, name, form, conversion in found if form or conversion]:
        raise ValueError(f"benchmark.grammar.template = {template!r}: {odd[0]!r}: the name alone belongs in its braces")
    return {name for _, name, _, _ in found}


def check_values(key: str, values: Any) -> None:
    """Refuse a slot without values, or with one that is blank, no text, or there twice."""
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"{key} = {values!r}: a list of at least one value is wanted")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{key}: the value {value!r} is blank or no text (quote it in the yaml)")
    same = [plain(value) for value in values]
    if twice := sorted({value for value in same if same.count(value) > 1}):
        raise ValueError(f"{key}: {', '.join(map(repr, twice))} is there more than once")
