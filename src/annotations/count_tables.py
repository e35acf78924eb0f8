"""Numbers of objects in a CSV table: wide, a column a class, or long, a row an image and class.

Wide: an image without a row is one whose counts are unknown. Long: a class without a row is 0 in that image, as is
every class of an image without any row.
"""

import pandas as pd

from src.annotations.box_tables import NOTHING
from src.data_spec import CountTable
from src.errors import ProjectError
from src.listing import nfc


def read_counts(table: pd.DataFrame, spec: CountTable, name: str) -> dict[str, dict[str, int]]:
    """Counts by class name of each id that the table has.

    Args:
        table: of `src.tables.read_table`, with the columns that `spec` names; `name` is its file, for messages.

    Raises:
        ProjectError: a count that is missing, negative or no whole number, or two that contradict each other.
    """
    found: dict[str, dict[str, int]] = {}
    for line, row in zip(table.index, table.to_dict("records"), strict=True):
        source, identifier = f"{name}:{line}", row[spec.id]
        counts = found.setdefault(identifier, {})
        if spec.columns is not None:
            values = {label: _count(row[column], column, source) for label, column in spec.columns.items()}
        else:
            label = nfc(row[spec.label].strip())
            if not label:
                raise ProjectError(f"{source}: no class in column '{spec.label}'. Write it, or drop the row.")
            values = {label: _count(row[spec.count], spec.count, source)}
        for label, value in values.items():
            if counts.setdefault(label, value) != value:
                raise ProjectError(
                    f"{source}: '{label}' in '{identifier}' is {value}, and {counts[label]} in a row before. Keep one."
                )
    return found


def _count(text: str, column: str, source: str) -> int:
    text = text.strip()
    if text.lower() in NOTHING:
        raise ProjectError(f"{source}: no number in column '{column}'. Write 0 where there is nothing to count.")
    try:
        value = float(text)
    except ValueError:
        value = -0.5
    if not (value >= 0 and value.is_integer()):
        raise ProjectError(
            f"{source}: '{text}' in column '{column}' is no count. Write a whole number, 0 or more, without a unit."
        )
    return int(value)
