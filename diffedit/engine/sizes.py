"""How many rows a network call has: fixed by the kind of device, measured, or as asked for."""

from typing import Annotated

from annotated_types import Ge

from diffedit.io.checks import settings

Rows = Annotated[int, Ge(1)]


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
        sizes = (self.predict, self.encode, self.decode, self.embed, self.custom)
        return sum(size - 1 for size in sizes) + 1
