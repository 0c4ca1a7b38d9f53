"""What a benchmark asks for, looked at before any work: nothing is made of requests that cannot be kept apart."""

from collections.abc import Collection, Iterator
from typing import Any

from diffedit.io.files import fold
from diffedit.types import EditRequest

REMEDIES = {
    "mask": "take a benchmark with masks (of a table: a column `mask`), or an editor that infers its own",
    "true_mask": "take a benchmark that knows where the true edit differs, or editor/mask=contrast or given",
    "retrieved": "take a benchmark with other pictures of its targets (imagenet, coco, Still Life's)",
    "true_edit": "take a benchmark that knows the true edit, or another editor",
}


def iterate_requests(benchmark: Any, resolution: int) -> Iterator[EditRequest]:
    """The requests to be looked at: of a benchmark that draws or downloads its pictures, without that."""
    yield from getattr(benchmark, "read_only", lambda: benchmark)().requests(resolution)


def check_requests(benchmark: Any, resolution: int, inputs: Collection[str]) -> None:
    """Refuse a benchmark whose requests cannot be told apart by their files, or have not what the editor takes.

    One that alone lacks something fails by itself later.

    Args:
        benchmark: it.
        resolution: of the pictures.
        inputs: fields of a request that the editor calls.

    Raises:
        ValueError: two ids are equal, or their files would be on some disks; an id has no file name; no request has an
            input.
    """
    names: dict[str, str] = {}
    missing = set(inputs)
    for request in iterate_requests(benchmark, resolution):
        check_id(request.id, names)
        missing -= {name for name in missing if getattr(request, name) is not None}
    if missing and names:
        name = min(missing)
        remedy = REMEDIES.get(name, "take another benchmark, or another editor")
        raise ValueError(f"the editor takes the {name} of a request, and none of {len(names)} has one: {remedy}")


def check_id(request: str, names: dict[str, str]) -> None:
    """Refuse an id whose files would not be its own.

    Args:
        request: its id.
        names: ids by what a disk may make of their names; it is added.
    """
    try:
        name = fold(request)
    except UnicodeEncodeError:
        raise ValueError(
            f"request {request!r}: its id is no text (half of a surrogate pair); give it another"
        ) from None
    if name not in names:
        names[name] = request
    elif names[name] == request:
        raise ValueError(f"request {request!r}: two requests have this id; give one another")
    else:
        raise ValueError(
            f"requests {names[name]!r} and {request!r}: their files would be one on a disk that does not tell upper "
            "from lower case; give one another id"
        )
