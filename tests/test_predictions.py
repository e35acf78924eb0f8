"""The prediction store: what is written comes back, ids as text, and every break of the schema is named."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.errors import ProjectError
from src.predictions import read_map, read_predictions, write_map, write_predictions
from src.schemas import SCHEMAS

FRAMES: dict[str, dict[str, list[Any]]] = {
    "anomaly": {
        "id": ["007", "7", "불량 1/가.png"],
        "fold": [0, 1, -1],
        "score": [0.1 + 0.2, -3.5e-12, 1e9],
        "probs": [[0.25, 0.75], None, [1.0, 0.0]],
        "map": ["maps/007.npy", None, "maps/a b.npy"],
    },
    "detection": {
        "id": ["0001", "0002", "0003"],
        "fold": [-1, -1, -1],
        "width": [640, 480, 10],
        "height": [480, 640, 10],
        "boxes": [[[0.0, 1.5, 10.0, 20.0], [3.0, 3.0, 3.0, 9.0]], [], [[1.0, 2.0, 3.0, 4.0]]],
        "scores": [[0.9, 0.1], [], [0.5]],
        "labels": [[3, 0], [], [7]],
        "masks": [["5 3", "9 1"], None, ["1 1"]],
    },
    "caption": {
        "id": ["a", "b", "c"],
        "fold": [0, 0, 1],
        "candidates": [["고양이 두 마리", "cat"], ["개"], ['x, "y"\n']],
        "candidate_scores": [[-0.5, -1.5], [0.0], [2.0]],
        "image_scores": [[0.3, 0.1], None, [0.2]],
        "flags": [["retried"], None, None],
    },
}


def frame(task: str = "anomaly", **changes: list[Any]) -> pd.DataFrame:
    return pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in {**FRAMES[task], **changes}.items()})


@pytest.mark.parametrize("task", FRAMES)
def test_round_trip(task: str, tmp_path: Path) -> None:
    path = tmp_path / "oof.parquet"
    write_predictions(path, frame(task), task, {"run": "bottle_padim", "class_names": ["a", "b"]})
    found = read_predictions(path, task)
    assert {name: found[name].tolist() for name in found} == FRAMES[task]
    assert list(found.columns) == [column.name for column in SCHEMAS[task]]
    assert all(isinstance(value, str) for value in found["id"])
    assert found.attrs["metadata"]["run"] == "bottle_padim" and found.attrs["metadata"]["task"] == task
    write_predictions(path, found, task, found.attrs["metadata"])
    assert {name: read_predictions(path)[name].tolist() for name in found} == FRAMES[task]
    assert [p.name for p in tmp_path.iterdir()] == ["oof.parquet"]


@pytest.mark.parametrize("dtype", [object, "string", "str", "category"])
def test_text_columns_of_every_kind(dtype: Any, tmp_path: Path) -> None:
    made = pd.DataFrame(
        {"id": pd.Series(["007", "8"], dtype=dtype), "fold": np.int32([0, 0]), "score": np.float32([0.1, 2])}
    )
    made["map"] = pd.Series(["maps/1.npy", None], dtype=dtype)
    write_predictions(tmp_path / "a.parquet", made, "anomaly")
    found = read_predictions(tmp_path / "a.parquet")
    assert found["id"].tolist() == ["007", "8"] and found["map"].tolist() == ["maps/1.npy", None]
    assert found["score"].tolist() == [float(np.float32(0.1)), 2.0] and found["probs"].tolist() == [None, None]


def test_ids_join_with_a_table_read_by_pandas(tmp_path: Path) -> None:
    write_predictions(tmp_path / "a.parquet", frame(), "anomaly")
    (tmp_path / "t.csv").write_text("id,label\n7,1\n007,0\n", encoding="utf-8")
    joined = read_predictions(tmp_path / "a.parquet").merge(pd.read_csv(tmp_path / "t.csv", dtype={"id": str}), on="id")
    assert joined.set_index("id")["label"].to_dict() == {"007": 0, "7": 1}


def test_an_empty_table_is_fine(tmp_path: Path) -> None:
    write_predictions(tmp_path / "a.parquet", frame().iloc[:0], "anomaly")
    found = read_predictions(tmp_path / "a.parquet")
    assert len(found) == 0 and found["score"].dtype == np.float64 and found["fold"].dtype == np.int64


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("anomaly", {"id": ["a", 7, "c"]}, r"column 'id', row 1 is 7; expected string, found int"),
        ("anomaly", {"id": ["a", "", "c"]}, r"column 'id', row 1 is '', but an id is not empty"),
        ("anomaly", {"id": ["a", None, "c"]}, r"column 'id', row 1 is missing"),
        ("anomaly", {"id": ["a", "a", "c"], "fold": [2, 2, 2]}, r"id 'a' appears twice in fold 2 \(rows 0 and 1\)"),
        ("anomaly", {"fold": [0, 0.5, 1]}, r"column 'fold', row 1 \(id '7'\) is 0.5; expected int64, found float"),
        ("anomaly", {"fold": [0, -2, 1]}, r"'fold', row 1 \(id '7'\) is '-2', but a fold is 0 or more"),
        ("anomaly", {"fold": [0, True, 1]}, r"'fold', row 1 .*found bool"),
        ("anomaly", {"score": [0.1, np.nan, 1.0]}, r"column 'score', row 1 \(id '7'\) is missing or NaN"),
        ("anomaly", {"score": [0.1, pd.NA, 1.0]}, r"column 'score', row 1 \(id '7'\) is missing or NaN"),
        ("anomaly", {"score": [0.1, 1.0, np.inf]}, r"'score', row 2 \(id '불량 1/가.png'\) is 'inf', but it must"),
        ("anomaly", {"score": [0.1, "0.5", 1.0]}, r"'score', row 1 .*expected float64, found str"),
        ("anomaly", {"probs": [[0.5], [1.5], None]}, r"'probs', row 1 .*between 0 and 1"),
        ("anomaly", {"map": ["maps/a.npy", "/tmp/a.npy", None]}, r"'map', row 1 .*below the folder"),
        ("anomaly", {"map": ["maps/a.npy", "../a.npy", None]}, r"'map', row 1 .*below the folder"),
        ("anomaly", {"scroe": [1, 2, 3]}, r"column 'scroe' is not part of task 'anomaly'. Did you mean 'score'"),
        ("detection", {"boxes": [[[0, 0, 1]], [], [[1, 2, 3, 4]]]}, r"'boxes', row 0 .*is not \[x1, y1, x2, y2\]"),
        ("detection", {"boxes": [[[9, 0, 1, 1]], [], [[1, 2, 3, 4]]]}, r"'boxes', row 0 .*x1 ≤ x2"),
        ("detection", {"scores": [[0.9], [], [0.5]]}, r"row 0 \(id '0001'\) has lists .*boxes 2, scores 1"),
        ("detection", {"width": [640, 0, 10]}, r"'width', row 1 .*at least 1 pixel"),
        ("detection", {"labels": [[3, 0.5], [], [7]]}, r"'labels', row 0 .*expected list<int64>, found float"),
        ("caption", {"candidates": [["a", " "], ["b"], ["c"]]}, r"'candidates', row 0 .*none empty"),
        ("caption", {"candidates": ["text", ["b"], ["c"]]}, r"'candidates', row 0 .*expected list<string>, found str"),
    ],
)  # fmt: skip
def test_breaks_are_named_and_nothing_is_written(
    task: str, changes: dict[str, list[Any]], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ProjectError, match=message):
        write_predictions(tmp_path / "new" / "x.parquet", frame(task, **changes), task)
    assert not (tmp_path / "new").exists()


def test_missing_column_and_unknown_task(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="column 'score' is missing"):
        write_predictions(tmp_path / "x.parquet", frame().drop(columns="score"), "anomaly")
    with pytest.raises(ProjectError, match="Did you mean 'anomaly'"):
        write_predictions(tmp_path / "x.parquet", frame(), "anomly")
    with pytest.raises(ProjectError, match="has 2 values for 3 class_names"):
        write_predictions(tmp_path / "x.parquet", frame(), "anomaly", {"class_names": ["a", "b", "c"]})


def test_reading_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="there are no predictions at"):
        read_predictions(tmp_path / "absent.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ProjectError, match="not readable as Parquet"):
        read_predictions(tmp_path / "bad.parquet")
    pd.DataFrame({"id": ["1"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(ProjectError, match="no prediction store"):
        read_predictions(tmp_path / "other.parquet")
    write_predictions(tmp_path / "a.parquet", frame(), "anomaly")
    with pytest.raises(ProjectError, match="task 'anomaly', but task 'caption'"):
        read_predictions(tmp_path / "a.parquet", "caption")


def test_a_store_spoilt_by_another_program_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_predictions(tmp_path / "a.parquet", frame(), "anomaly")
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.drop_columns(["fold"]), tmp_path / "b.parquet")
    with pytest.raises(ProjectError, match="column 'fold' is missing"):
        read_predictions(tmp_path / "b.parquet")
    spoilt = table.set_column(2, "score", pa.array([0.1, float("nan"), 0.3]))
    pq.write_table(spoilt, tmp_path / "c.parquet")
    with pytest.raises(ProjectError, match=r"column 'score', row 1 \(id '7'\)"):
        read_predictions(tmp_path / "c.parquet")


def test_maps(tmp_path: Path) -> None:
    values = np.linspace(0, 3, 64, dtype=np.float32).reshape(8, 8)
    relative = write_map(tmp_path, "test_000001", values)
    assert relative == "maps/test_000001.npy"
    assert read_map(tmp_path, relative).dtype == np.float16
    np.testing.assert_allclose(read_map(tmp_path, relative), values, atol=2e-3)
    for hard in (values * 1e6, values * 1e-9, values * 1e-3 + 500):
        kept = read_map(tmp_path, write_map(tmp_path, "hard", hard))
        assert kept.dtype == np.float32 and np.array_equal(kept, hard)
    names = [
        write_map(tmp_path, name, values) for name in ("a/b", "a_b", "A_b", "a b", "가", "가" * 90, "..", "x" * 300)
    ]
    assert len({name.lower() for name in names}) == len(names) and all((tmp_path / name).is_file() for name in names)
    with pytest.raises(ProjectError, match="'bad'"):
        write_map(tmp_path, "bad", values * np.nan)
    with pytest.raises(ProjectError, match="not readable"):
        read_map(tmp_path, "maps/absent.npy")
