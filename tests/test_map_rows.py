"""Map rules on tables: out-of-fold rows only, new files beside the raw ones, rows without a map as they were."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from src.calibration.map_rule import MapRule
from src.errors import ProjectError
from src.map_rows import apply_map_rule, tune_on_oof_maps
from src.predictions import read_map, read_predictions, write_map, write_predictions


@pytest.fixture
def table(tmp_path: Path) -> pd.DataFrame:
    """Sixty held-out rows; twenty show a faint wide bump in white noise."""
    generator = np.random.default_rng(0)
    rows = []
    for row in range(60):
        plane = generator.normal(size=(64, 64)).astype(np.float32)
        if row < 20:
            plane[10 + row : 26 + row, 20:36] += 0.7
        cell = write_map(tmp_path, f"oof_{row:06d}", plane)
        rows.append({"id": f"i{row}", "fold": row % 2, "score": float(plane.max()), "probs": None, "map": cell})
    frame = pd.DataFrame(rows)
    frame.attrs["metadata"] = {"run": "r"}
    return frame


def labels_of(frame: pd.DataFrame) -> pd.Series:
    return pd.Series([1] * 20 + [0] * 40, index=frame["id"], dtype="Int64")[::-1]


def test_tuned_then_applied(table: pd.DataFrame, tmp_path: Path) -> None:
    rule = tune_on_oof_maps(table, labels_of(table), tmp_path, "auroc")
    assert rule is not None and rule.cross_validated > rule.plain
    before = {path.name: path.read_bytes() for path in (tmp_path / "maps").iterdir()}
    ruled = apply_map_rule(table, tmp_path, MapRule(2.0, rule.score, rule.share), "oof_smooth")
    raw = [read_map(tmp_path, cell) for cell in table["map"]]
    for row in (0, 7, 59):
        expected, score = MapRule(2.0, rule.score, rule.share).apply(raw[row], table["score"][row])
        assert ruled["score"][row] == score
        np.testing.assert_allclose(read_map(tmp_path, ruled["map"][row]), expected, atol=2e-3)
    assert not set(ruled["map"]) & set(table["map"])
    assert all((tmp_path / "maps" / name).read_bytes() == content for name, content in before.items())
    assert ruled.attrs == table.attrs and list(ruled.columns) == list(table.columns)
    write_predictions(tmp_path / "oof.parquet", ruled, "anomaly", {"run": "r"})
    assert read_predictions(tmp_path / "oof.parquet", "anomaly")["map"].tolist() == ruled["map"].tolist()


def test_rows_without_a_map_keep_their_score(table: pd.DataFrame, tmp_path: Path) -> None:
    frame = pd.concat([table.iloc[:2], table.iloc[2:3].assign(map=None, score=123.0)]).iloc[::-1]
    ruled = apply_map_rule(frame, tmp_path, MapRule(1.0, "top", 0.01), "test_smooth")
    assert ruled["id"].tolist() == frame["id"].tolist() and ruled.index.tolist() == frame.index.tolist()
    assert ruled["score"].iloc[0] == 123.0 and ruled["map"].iloc[0] is None
    assert (ruled["score"].iloc[1:] < frame["score"].iloc[1:]).all() and ruled["map"].notna().sum() == 2


def test_without_smoothing_the_maps_stay(table: pd.DataFrame, tmp_path: Path) -> None:
    ruled = apply_map_rule(table, tmp_path, MapRule(0, "top", 0.05), "smooth")
    assert ruled["map"].tolist() == table["map"].tolist() and len(list((tmp_path / "maps").iterdir())) == 60
    assert (ruled["score"] < table["score"]).all()
    kept = apply_map_rule(table, tmp_path, MapRule(), "smooth")
    assert kept["score"].tolist() == table["score"].tolist() and kept["map"].tolist() == table["map"].tolist()


def test_raw_maps_are_never_written_over(table: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="prefix 'oof' would be written over"):
        apply_map_rule(table, tmp_path, MapRule(2.0, "max"), "oof")


def test_test_rows_take_no_part(table: pd.DataFrame, tmp_path: Path) -> None:
    mixed = table.assign(fold=[-1, *table["fold"][1:]])
    with pytest.raises(ProjectError, match="1 of 60 rows are of the test .fold -1., first 'i0'"):
        tune_on_oof_maps(mixed, labels_of(table), tmp_path, "auroc")
    assert tune_on_oof_maps(table.iloc[:0], labels_of(table), tmp_path, "auroc") is None
