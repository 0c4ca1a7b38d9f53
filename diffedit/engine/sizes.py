"""How many rows a network call has: fixed by the kind of device, measured, or as asked for."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from diffedit.engine.measure import find_knee, find_rates
from diffedit.io.checks import Count, settings
from diffedit.io.device import find_device
from diffedit.types import Backbone

log = logging.getLogger(__name__)

Rows = Count
NAMES = ("predict", "encode", "decode", "embed", "custom")


@settings
class BatchSizes:
    """Rows in each network call. Results are equal to the bit only at equal sizes.

    Attributes:
        predict: of the denoiser.
        encode: of the autoencoder, up.
        decode: of the autoencoder, down.
        embed: of the text encoder.
        custom: of a method's own calls.
        requests: how many there are, where they are too few to fill such calls; calls are then fitted to them. None for
            calls of one size.
    """

    predict: Rows = 16
    encode: Rows = 4
    decode: Rows = 4
    embed: Rows = 8
    custom: Rows = 4
    requests: Rows | None = None

    def get_size(self, name: str, rows: int) -> int:
        """Rows in the calls for a query of so many rows: a fact of the run and the query, never of what is beside it.

        `requests` such queries wait together at most. A size is filled by them at every step of their walk if it
        divides their rows, or if it is filled even while all rows but one of one query are answered.
        """
        size = getattr(self, name)
        if self.requests is None:
            return size
        together = self.requests * rows
        while size > (together - rows + 1) and together % size:
            size = 1 << (size - 1).bit_length() - 1  # the next lower power of two
        return size

    def count_window(self) -> int:
        """Live programs, each waiting on a row at least, of which some kind always fills a call."""
        return sum(getattr(self, name) - 1 for name in NAMES) + 1

    def describe(self) -> str:
        """The sizes in words."""
        sizes = ", ".join(f"{name} {getattr(self, name)}" for name in NAMES)
        return sizes + f", fitted to {self.requests} requests" * (self.requests is not None)


# The same command gives the same bits on every machine of a kind, so these are not measured there. A CPU and Apple's
# GPUs are near their best rate with few rows, and CUDA takes about twice as many latents of 64 x 64; its decoder stays
# small, since it is what needs most memory.
DEFAULTS = {
    "cpu": BatchSizes(),
    "mps": BatchSizes(),
    "cuda": BatchSizes(predict=32, encode=8, decode=4, embed=32, custom=4),
}

Size = Rows | Literal["default", "auto"]


@settings
class AskedSizes:
    """Rows in each network call, as a config asks for them.

    Each is a number, `default`, which is fixed for the kind of device, or `auto`, which is measured on this one.
    """

    predict: Size = "default"
    encode: Size = "default"
    decode: Size = "default"
    embed: Size = "default"
    custom: Size = "default"
    requests: Rows | None = None

    @classmethod
    def read(cls, batch: Any) -> "AskedSizes":
        """Of a config's `engine.batch`: a mapping, or a word for all of them; a ValueError where it is neither."""
        if isinstance(batch, Mapping):
            return cls(**batch)
        if batch in ("default", "auto"):
            return cls(*[batch] * len(NAMES))
        raise ValueError(
            f"engine.batch = {batch}: default, auto, or settings of its own, such as engine.batch.predict=32"
        )


def choose_sizes(
    asked: AskedSizes | BatchSizes, backbone: Backbone, requests: int | None, before: Mapping[str, int] | None = None
) -> BatchSizes:
    """The numbers behind what is asked for.

    Args:
        asked: numbers stay as they are.
        backbone: the networks, on their device.
        requests: of the whole benchmark, whatever of it is done: `auto` fits the calls to them where they are few,
            None: to none.
        before: the sizes of the run that goes on, which stand for every word.
    """
    if isinstance(asked, BatchSizes):
        return asked
    given = {name: getattr(asked, name) for name in NAMES}
    words = {name: word for name, word in given.items() if isinstance(word, str)}
    device = find_device(backbone)
    fixed = vars(DEFAULTS.get(device.type, DEFAULTS["cuda"]))
    if before is not None:
        resumed = {name: before.get(name, fixed[name]) for name in words}
        sizes = BatchSizes(**given | resumed, requests=asked.requests or (before.get("requests") if words else None))
        if resumed != {name: fixed[name] for name in words} or "auto" in words.values():
            log.info("engine.batch: the sizes that this run was begun with: %s", sizes.describe())
        return sizes
    measured = [name for name, word in words.items() if word == "auto" and name != "custom"]
    rates = find_rates(backbone, device, measured) if measured else {}
    chosen = {name: find_knee(rates[name]) if name in rates else fixed[name] for name in words}
    sizes = BatchSizes(**given | chosen, requests=asked.requests)
    if words.get("predict") == "auto" and requests is not None and requests < sizes.predict:
        sizes = replace(sizes, requests=requests)
    if measured:
        log.info("engine.batch=auto: %s", sizes.describe())
    return sizes
