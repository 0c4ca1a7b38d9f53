"""Tables as files."""

import io

import pandas as pd


def table_bytes(table: pd.DataFrame) -> bytes:
    """As a Parquet file."""
    data = io.BytesIO()
    table.to_parquet(data, index=False)
    return data.getvalue()
