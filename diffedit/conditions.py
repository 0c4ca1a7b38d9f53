"""What a method contrasts and conditions on: texts, or for a class-conditional backbone classes.

A benchmark offers both, and a method knows texts alone. So where the backbone knows classes, what it is told of each
class stands in the request where the text stood.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Literal

from diffedit.types import Backbone, Editor, EditRequest, EditResult, Program

Choice = Literal["empty", "source", "source_class", "target_class", "given"]
"""What a condition is of: the `empty` text (the null class), the request's `source` text, the class of the picture or
that of the target, or a text that is `given` in the settings, the same for all requests."""


def choose_text(choice: Choice, request: EditRequest, given: str | None, key: str) -> str:
    """The text of a choice.

    Args:
        choice: the choice.
        request: in the words of the backbone.
        given: the text of the settings.
        key: of the setting, for the error.

    Raises:
        ValueError: the request, or the settings, have no such text.
    """
    texts = {"empty": "", "source": request.source, "given": given}
    texts |= {"source_class": request.source_class, "target_class": request.target_class}
    text = texts[choice]
    if text is not None:
        return str(text)
    if choice == "given":
        raise ValueError(f"{key}=given and no text: set {key.rpartition('.')[0]}.{GIVEN[key]}")
    lacks = {"source": "source text"}.get(choice, choice.replace("_", " "))
    raise ValueError(f"request {request.id}: {key}={choice} and the request has no {lacks}")


GIVEN = {
    "editor.reference": "reference_text",
    "editor.negative": "negative_text",
    "editor.inversion.condition": "text",
}


def describe_unread(editor: Editor) -> Iterator[str]:
    """A sentence for each text of an editor's settings that is read with another choice alone."""
    for key, field in GIVEN.items():
        *above, name = key.split(".")[1:]
        part: Any = editor
        for each in above:
            part = getattr(part, each, None)
        choice, text = getattr(part, name, "given"), getattr(part, field, None)
        if text is not None and choice != "given":
            own = f"{key.rpartition('.')[0]}.{field}"
            yield f"{own} = {text!r} is not read, as {key} is {choice}: it is with {key}=given"


def any_text(backbone: Backbone) -> str:
    """A text that a backbone can be measured with: the empty one, or a class where there is no null class."""
    return "0" if backbone.conditions == "class" and getattr(backbone, "null_class", None) is None else ""


def in_words_of(
    backbone: Backbone, request: EditRequest, make: Callable[[EditRequest], Program[EditResult]]
) -> Program[EditResult]:
    """The program of a request in the words of a backbone; a class that it does not know is the program's error.

    Args:
        backbone: it.
        request: as the benchmark gives it.
        make: the program of a request.
    """
    if backbone.conditions == "text":
        return make(request)

    def program() -> Program[EditResult]:
        return (yield from make(name_classes(backbone, request)))

    return program()


def name_classes(backbone: Backbone, request: EditRequest) -> EditRequest:
    """A request whose texts are those of its classes, where the benchmark says which they are.

    A source text stands for the source class. Where there was none there is none: what is contrasted with nothing on
    texts is so on classes.
    """
    target, source = (
        None if one is None else replace(one, word=backbone.name_class(one))
        for one in (request.target_class, request.source_class)
    )
    words = {"caption": request.target, "target": request.target if target is None else str(target)}
    if request.source is not None and source is not None:
        words["source"] = str(source)
    return replace(request, target_class=target, source_class=source, **words)
