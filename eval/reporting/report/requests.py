"""The requests of a page: texts, what became of each in every run, and where its pictures lie."""

import difflib
from collections.abc import Iterator
from typing import Any

from diffedit.io.files import quote_file_name
from diffedit.types import EditRequest
from eval.reporting.report.sets import RunSet, find_facts

KEPT, LEFT_OUT, NEW = 0, 1, 2  # of words, from source to target


def describe_requests(shown: RunSet) -> dict[str, Any]:
    """Of one set; errors and flags are by run and request, as far as there are some."""
    return {
        "ids": [request.id for request in shown.requests],
        "labels": [request.label for request in shown.requests],
        "words": [mark_words(request) for request in shown.requests],
        "has_source": [request.source is not None for request in shown.requests],
        "stems": [quote_file_name(request.id) for request in shown.requests],
        "true": [request.true_edit is not None for request in shown.requests],
        "given": [request.mask is not None for request in shown.requests],
        **{name: [dict(part) for part in find_states(shown, name)] for name in ("errors", "flags", "masks", "maps")},
        "files": dict(find_odd_files(shown)),
    }


def find_states(shown: RunSet, name: str) -> Iterator[Iterator[tuple[int, Any]]]:
    """For each run (place of a request, its error, its flag, or that it has a mask or a map)."""
    for run in shown.runs:
        records = [run.records[request.id] for request in shown.requests]
        yield ((i, state) for i, record in enumerate(records) if (state := READERS[name](record)))


def read_error(record: dict[str, Any]) -> str:
    """Why there is no edit; "" where there is one."""
    return "" if record["status"] == "done" else str(record.get("error") or record["status"])


READERS = {
    "errors": read_error,
    "flags": lambda record: str(find_facts(record).get("mask_flag") or ""),
    "masks": lambda record: bool(record.get("mask")),
    "maps": lambda record: bool(record.get("map")),
}


def find_odd_files(shown: RunSet) -> Iterator[tuple[str, str]]:
    """("run strength request", file) of edits that do not lie where a page expects them."""
    for k, run in enumerate(shown.runs):
        variants = {str(variant): variant for variant in run.variants}
        for i, request in enumerate(shown.requests):
            for edit in run.records[request.id].get("edits") or ():
                variant = variants.get(edit["variant"])
                expected = variant and f"images/{variant.folder}/{quote_file_name(request.id)}.png"
                if variant and edit["file"] != expected:
                    yield f"{k} {shown.strengths.index(variant.strength)} {i}", edit["file"]


def mark_words(request: EditRequest) -> list[tuple[str, int]]:
    """What is asked for, with what of the source it leaves out and what is new."""
    kinds = {"": KEPT, "del": LEFT_OUT, "ins": NEW}
    return [(text, kinds[kind]) for text, kind in mark_changes(request.source, request.target_text)]


def mark_changes(source: str | None, target: str) -> list[tuple[str, str]]:
    """The target, word by word joined, with what of the source it leaves out ("del") and what is new ("ins")."""
    if source is None:
        return [(target, "")]
    before, after = source.split(), target.split()
    words = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind == "equal":
            words.append((" ".join(after[c:d]), ""))
        else:
            words += [(" ".join(part), name) for part, name in ((before[a:b], "del"), (after[c:d], "ins")) if part]
    return words
