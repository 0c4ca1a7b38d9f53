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
        fields = parse_fields(self.template)
        lacking, idle = sorted(fields - set(self.slots)), [name for name in self.slots if name not in fields]
        if lacking or idle:
            faults = (("no slot for", lacking), ("no place for the slot", idle))
            listed = "; ".join(f"{fault} {', '.join(map(repr, names))}" for fault, names in faults if names)
            raise ValueError(f"benchmark.grammar.template = {self.template!r}: {listed} of benchmark.grammar.slots")
        for name, values in self.slots.items():
            check_values(f"benchmark.grammar.slots.{name}", values)
        if not self.variable:
            raise ValueError("benchmark.grammar.slots: one value in each: nothing can be changed into something else")
        first: dict[str, Mapping[str, str]] = {}
        for values in self.combinations():
            if (other := first.setdefault(self.prompt(values), values)) is not values:
                raise ValueError(
                    f"benchmark.grammar.slots: {other} and {values} give the same prompt {self.prompt(values)!r}"
                )

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
        return join_words(self.template.format_map(values))


def join_words(text: str) -> str:
    """The text with single blanks for all white space, and none around."""
    return " ".join(text.split())


def parse_fields(template: str) -> set[str]:
    """The names in a template's braces."""
    try:
        fields = [field for field in Formatter().parse(template) if field[1] is not None]
    except ValueError as error:
        raise ValueError(f"benchmark.grammar.template = {template!r}: {error}") from error
    if odd := [name for _, name, form, conversion in fields if form or conversion]:
        raise ValueError(f"benchmark.grammar.template = {template!r}: {odd[0]!r}: the name alone belongs in its braces")
    return {name for _, name, _, _ in fields}


def check_values(key: str, values: Any) -> None:
    """Refuse a slot without values, or with one that is blank, no text, or there twice."""
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"{key} = {values!r}: a list of at least one value is wanted")
    for value in values:
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{key}: the value {value!r} is blank or no text (quote it in the yaml)")
    texts = [join_words(value) for value in values]
    if twice := sorted({text for text in texts if texts.count(text) > 1}):
        raise ValueError(f"{key}: {', '.join(map(repr, twice))} is there more than once")
