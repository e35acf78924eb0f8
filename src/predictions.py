"""The prediction store: one Parquet file, a row an image, checked against its task's schema both ways.

It holds what re-thresholding, blending and re-formatting need, so none of them runs the model again. The
file's metadata says which task and run it is from; anomaly maps lie as .npy files in maps/ beside it.
"""

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from src.atomic import atomic_path
from src.errors import ProjectError
from src.schemas import check_frame, schema_of

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_METADATA_KEY = b"image_competition"
_FORMAT_VERSION = 1


def write_predictions(
    path: str | Path, frame: "pd.DataFrame", task: str, metadata: Mapping[str, Any] | None = None
) -> None:
    """Check and write a whole Parquet file. Nullable columns may be left out.

    Args:
        metadata: plain values kept in the file: `run`, `class_names` (list of str) and the like.

    Raises:
        ProjectError: the frame breaks the task's schema; names column, row and id, and nothing is written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    columns = check_frame(frame, task, metadata or {}, path)
    note = {**(metadata or {}), "task": task, "version": _FORMAT_VERSION}
    try:
        text = json.dumps(note, ensure_ascii=False)
    except TypeError as error:
        raise ProjectError(f"{path}: the metadata must be plain values ({error}).") from error
    schema = pa.schema(
        [pa.field(column.name, _arrow_type(column.arrow), column.nullable) for column in schema_of(task)],
        metadata={_METADATA_KEY: text.encode()},
    )
    table = pa.table([pa.array(columns[field.name], type=field.type) for field in schema], schema=schema)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_predictions(path: str | Path, task: str | None = None) -> "pd.DataFrame":
    """A checked table. `frame.attrs["metadata"]` holds the metadata (with `task`), `frame.attrs["path"]` the
    file.

    `id` holds str ("007" stays "007"); lists come back as Python lists, missing cells of nullable columns as
    None.

    Raises:
        ProjectError: no such file, not Parquet, not written by `write_predictions`, of another task than
        `task`,
            or the content breaks the schema.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(path)
    if not path.is_file():
        raise ProjectError(f"there are no predictions at {path}. Train the run to its end, or check run=….")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise ProjectError(f"{path} is not readable as Parquet ({error}). Predict again with infer.py.") from error
    note = (table.schema.metadata or {}).get(_METADATA_KEY)
    if note is None:
        raise ProjectError(f"{path} is no prediction store. Expected a run's predictions/oof.parquet or the like.")
    metadata = json.loads(note)
    found = metadata["task"]
    if task is not None and found != task:
        raise ProjectError(f"{path} holds predictions of task '{found}', but task '{task}' was expected.")
    series = {
        column.name: pd.Series(
            table.column(column.name).to_pylist(),
            dtype=column.arrow if column.arrow in ("int64", "float64") else object,  # alike in pandas 2 and 3
        )
        for column in schema_of(found)
        if column.name in table.column_names
    }
    frame = pd.DataFrame(series)
    check_frame(frame, found, metadata, path)
    frame.attrs = {"metadata": metadata, "path": str(path)}
    return frame


def with_median_rows(frame: "pd.DataFrame", ids: Sequence[str], reference: "pd.DataFrame") -> "pd.DataFrame":
    """Rows added for images that could not be read: the median score and the mean class probabilities of `reference`.

    Of `frame` itself where the reference has no rows.
    """
    import pandas as pd

    if not len(ids):
        return frame
    known = reference if len(reference) else frame
    given = [probs for probs in known["probs"] if probs is not None]
    probs = np.mean(given, axis=0).tolist() if given else None
    median = float(known["score"].median())
    rows = [{"id": name, "fold": -1, "score": median, "probs": probs, "map": None} for name in ids]
    return pd.concat([frame, pd.DataFrame(rows)], ignore_index=True)


def write_map(folder: str | Path, name: str, anomaly_map: np.ndarray) -> str:
    """Keep an (H, W) anomaly map as maps/<name>.npy below `folder`; answers that path for the `map` column.

    float16, unless that overflows or blurs the map by more than 1% of its own range: then float32. `name` may
    be any text, an id for example, but must differ between the maps of one folder (out-of-fold and test ones
    too).

    Raises:
        ProjectError: the map is not two-dimensional or not finite; the message names it.
    """
    full = np.asarray(anomaly_map, dtype=np.float32)
    if full.ndim != 2 or not full.size or not np.isfinite(full).all():
        raise ProjectError(
            f"the anomaly map of '{name}' (shape {full.shape}) must be height×width and finite throughout."
        )
    with np.errstate(over="ignore"):
        half = full.astype(np.float16)
    blurred = np.abs(half.astype(np.float32) - full).max() > 0.01 * (full.max() - full.min())
    relative = f"maps/{_file_name(name)}.npy"
    with atomic_path(Path(folder) / relative) as temporary:
        np.save(temporary, full if blurred else half)
    return relative


def read_map(folder: str | Path, relative: str) -> np.ndarray:
    """The (H, W) float16 or float32 map that a `map` cell names, relative to the Parquet file's folder.

    Raises:
        ProjectError: the file is missing or not an array.
    """
    path = Path(folder) / relative
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ProjectError(f"the anomaly map {path} is not readable ({error}). Predict again.") from error


def _file_name(name: str) -> str:
    """The name where it is safe on any disk, else a hash with some of it, so that no two names meet."""
    plain = re.sub(r"[^\w\-.]+", "_", name).lstrip(".")
    if plain == name and plain == plain.lower() and len(plain.encode()) <= 120:
        return plain
    return f"{plain[:30]}-{sha256(name.encode()).hexdigest()[:12]}"


def _arrow_type(text: str) -> "pa.DataType":
    import pyarrow as pa

    if text.startswith("list<"):
        return pa.list_(_arrow_type(text[5:-1]))
    return {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}[text]
