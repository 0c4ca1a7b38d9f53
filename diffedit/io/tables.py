"""Tables as files."""

import io
from pathlib import Path

import pandas as pd

from diffedit.io.files import write


def encode_table(table: pd.DataFrame) -> bytes:
    """As a Parquet file."""
    data = io.BytesIO()
    table.to_parquet(data, index=False)
    return data.getvalue()


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a Parquet file so that it is either whole or absent."""
    write(path, encode_table(table))
