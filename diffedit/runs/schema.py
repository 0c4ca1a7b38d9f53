"""What a record is, field by field: what this code writes, and what it therefore takes for whole when it reads one."""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le
from pydantic import AfterValidator, BaseModel, ConfigDict, InstanceOf, StringConstraints, TypeAdapter, ValidationError

from diffedit.types import Variant

Text = InstanceOf[str]  # of a request: an id or a path may hold what no encoding has
Hash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Ge(0), Le(2**53)]


def check_fact(value: Any) -> Any:
    """A small fact itself; a ValueError where it is none."""
    if isinstance(value, str | bool | float | None) or (isinstance(value, int) and abs(value) <= 2**53):
        return value
    raise ValueError("a text or a number is wanted")


Fact = Annotated[Any, AfterValidator(check_fact)]

FACTS = TypeAdapter(dict[str, Fact], config=ConfigDict(strict=True))


class Strict(BaseModel):
    """Of these fields and types, and nothing else."""

    model_config = ConfigDict(strict=True, extra="forbid")


class FileStamp(Strict):
    """A file as it was written."""

    size: Count
    sha256: Hash


class SourceStamp(Strict):
    """A file of a request as it was edited."""

    size: Count
    mtime_ns: int
    sha256: Hash


class EditEntry(Strict):
    """One edit; of several samples the best."""

    variant: str
    level: Count
    evaluations: Count
    file: str
    sha256: Hash
    sample: Count = 0
    score: float | None = None
    mask: str | None = None


class SampleEntry(Strict):
    """One sample of one variant."""

    sample: Count
    score: float | None
    mask: str | None
    variant: str
    best: bool
    file: str
    sha256: Hash


class Record(Strict):
    """A request, and what became of it; records of before know neither `files` nor `sources`."""

    id: Text
    status: Literal["done", "failed"]
    source: Text | None
    target: Text
    origin: Text
    error: str | None
    seconds: Annotated[float, Ge(0), Le(1e12)]
    shared_evaluations: Count
    edits: list[EditEntry]
    mask: str | None
    map: str | None
    metadata: dict[str, Fact]
    files: dict[str, FileStamp] = {}
    sources: dict[Literal["image", "mask"], SourceStamp] = {}
    samples: list[SampleEntry] = []


def check_record(record: Mapping[str, Any], name: str) -> None:
    """Refuse what this code cannot have written: a ValueError that names field and value.

    Args:
        record: in today's fields.
        name: of the files of its request, without an ending: a record speaks of no others.
    """
    try:
        Record.model_validate(record)
    except ValidationError as error:
        raise ValueError(describe_faults(error)) from None
    if record["status"] == "done" and not record["edits"]:
        raise ValueError("done, and without edits")
    for place, file, known in list_places(record, name):
        if file not in known:
            raise ValueError(f"{place} = {shorten(file)}, and not {shorten(known[0])}")
    check_files(record)


def check_files(record: Mapping[str, Any]) -> None:
    """Refuse a record whose list of files is not that of the files it names: a ValueError."""
    variants = [edit["variant"] for edit in record["edits"]]
    if len(set(variants)) < len(variants):
        raise ValueError(f"edits = {shorten(variants)}: one twice")
    files, listed = record.get("files", {}), set(list_files(record))
    if not files:  # a record of before
        return
    if set(files) != listed:
        raise ValueError(f"files = {shorten(sorted(files))}, and what it names is {shorten(sorted(listed))}")
    for entry in [*record["edits"], *record.get("samples", ())]:
        if files[entry["file"]]["sha256"] != entry["sha256"]:
            raise ValueError(f"{entry['file']}: two hashes")


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse, before it is written, what could not be read back: a TypeError that names key and value."""
    try:
        FACTS.validate_python(dict(metadata))
    except ValidationError as error:
        raise TypeError(f"metadata of a result: {describe_faults(error)}") from None


def describe_faults(error: ValidationError) -> str:
    """The first fault that pydantic found, and how many more there are."""
    first, *more = error.errors(include_url=False)
    place = ".".join(map(str, first["loc"]))
    value = "" if first["type"] == "missing" else f" = {shorten(first['input'])}"
    return f"{place}{value}: {first['msg']}" + f", and {len(more)} more" * bool(more)


def shorten(value: Any) -> str:
    """A value of a file in a line of a log."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def list_files(record: Mapping[str, Any]) -> list[str]:
    """Every file that a record names, by its name inside the run."""
    samples = record.get("samples", ())
    files = [edit["file"] for edit in [*record["edits"], *samples]]
    files += [sample["mask"] for sample in samples if sample["mask"]]
    files += [record[key] for key in ("mask", "map") if record[key]]
    return list(dict.fromkeys(files))


def list_places(record: Mapping[str, Any], name: str) -> Iterator[tuple[str, str, Sequence[str]]]:
    """(field, file, which it may be) of each file that a record names."""
    for i, edit in enumerate(record["edits"]):
        yield f"edits.{i}.file", edit["file"], name_images("", edit["variant"], name)
        if edit.get("mask"):
            yield f"edits.{i}.mask", edit["mask"], [f"samples/{edit.get('sample')}/masks/{name}.png"]
    for i, entry in enumerate(record.get("samples", ())):
        under = f"samples/{entry['sample']}/"
        yield f"samples.{i}.file", entry["file"], name_images(under, entry["variant"], name)
        if entry["mask"]:
            yield f"samples.{i}.mask", entry["mask"], [f"{under}masks/{name}.png"]
    if record["mask"]:
        yield "mask", record["mask"], [f"masks/{name}.png"]
    if record["map"]:
        yield "map", record["map"], [f"maps/{name}.npy"]


def name_images(under: str, variant: str, name: str) -> list[str]:
    """What the picture of a variant may be called; format 1 wrote ratios with six digits."""
    try:
        parsed = Variant.parse(variant)
    except ValueError:
        raise ValueError(f"variant = {shorten(variant)}") from None
    if re.search(r"[/\\\x00]", variant) or not (parsed.strength is None or isfinite(parsed.strength)):
        raise ValueError(f"variant = {shorten(variant)}")
    folders = [parsed.folder] if parsed.strength is None else [parsed.folder, f"{parsed.strength:g}"]
    return [f"{under}images/{folder}/{name}.png" for folder in folders]
