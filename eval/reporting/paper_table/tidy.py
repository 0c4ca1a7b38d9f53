"""A table as CSV: a row a cell, with all that is known of it, in full precision."""

import math

import pandas as pd

from eval.reporting.paper_table.description import PaperTable

COLUMNS = [
    *("benchmark", "backbone", "set", "kind", "method", "label", "setting", "at"),
    *("metric", "higher_is_better", "value", "low", "high", "n", "seeds", "is_best", "is_tied", "source", "note"),
]


def render_csv(table: PaperTable) -> str:
    """The cells that have a value; `setting` names what `at` is a value of."""
    return tabulate(table).to_csv(index=False, lineterminator="\n")


def tabulate(table: PaperTable) -> pd.DataFrame:
    """The same as a DataFrame."""
    sources = {mark: text for mark, text in table.notes if mark}
    records = []
    for row in table.rows:
        for group, column, cell in zip(table.column_groups, table.columns, row.cells, strict=True):
            if math.isfinite(cell.value):
                record = dict(zip(("benchmark", "backbone", "set"), group.key, strict=True))
                record |= {"kind": row.kind, "method": row.method, "label": row.label, "seeds": row.seeds}
                record |= {"setting": table.setting if row.setting else "", "at": row.setting}
                record |= {"metric": column.metric, "higher_is_better": column.higher_is_better}
                record |= {"value": cell.value, "low": cell.low, "high": cell.high, "n": cell.n, "note": cell.note}
                record |= {"is_best": cell.is_best, "is_tied": cell.is_tied, "source": sources.get(row.mark, "")}
                records.append(record)
    return pd.DataFrame(records, columns=COLUMNS).astype({"n": "Int64", "seeds": "Int64"})
