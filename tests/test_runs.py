"""Run folders: made once, refused twice, continued on request."""

import pytest

from src.errors import ProjectError
from src.runs import (
    RunFolder,
    config_hash,
    git_revision,
    open_run,
    read_config,
    read_record,
    write_config,
    write_record,
)


def test_a_second_run_of_the_same_name_is_refused(tmp_path) -> None:
    RunFolder.create(tmp_path, "anomaly", "a", resume=False)
    with pytest.raises(ProjectError, match="exists already.*resume=true"):
        RunFolder.create(tmp_path, "anomaly", "a", resume=False)


def test_unnamed_runs_never_collide(tmp_path) -> None:
    paths = {RunFolder.create(tmp_path, "anomaly", None, resume=False).path for _ in range(5)}
    assert len(paths) == 5


@pytest.mark.parametrize("name", ["a/b", "..", "", "a\nb", "x/../../y"])
def test_names_that_are_not_folders_are_refused(tmp_path, name: str) -> None:
    with pytest.raises(ProjectError, match="not a folder name"):
        RunFolder.create(tmp_path, "anomaly", name, resume=False)
    assert not list(tmp_path.iterdir())


def test_resume_needs_a_run(tmp_path) -> None:
    with pytest.raises(ProjectError, match="needs the name"):
        RunFolder.create(tmp_path, "anomaly", None, resume=True)
    with pytest.raises(ProjectError, match="no run to continue"):
        RunFolder.create(tmp_path, "anomaly", "a", resume=True)
    made = RunFolder.create(tmp_path, "anomaly", "실험 1", resume=False)
    write_config(made, {"task": "anomaly", "데이터": "값"})
    assert RunFolder.create(tmp_path, "anomaly", "실험 1", resume=True).path == made.path
    assert read_config(made) == {"task": "anomaly", "데이터": "값"}
    assert open_run(made.path).path == made.path.resolve()


def test_open_run_names_what_is_there(tmp_path) -> None:
    made = RunFolder.create(tmp_path, "anomaly", "first", resume=False)
    write_config(made, {})
    with pytest.raises(ProjectError, match="first"):
        open_run(tmp_path / "anomaly" / "frist")


def test_config_hash_ignores_what_does_not_change_the_result() -> None:
    base = {"seed": 0, "run": "a", "resume": False, "model": {"lr": 1.0}}
    assert config_hash(base) == config_hash({**base, "run": "b", "resume": True})
    assert config_hash(base) != config_hash({**base, "seed": 1})
    assert config_hash(base) != config_hash({**base, "model": {"lr": 2.0}})


def test_records_hold_nan_as_null(tmp_path) -> None:
    import numpy as np

    write_record(tmp_path / "m.json", {"a": float("nan"), "b": [np.float32(1.5), np.int64(2)], "c": {"d": np.inf}})
    assert read_record(tmp_path / "m.json") == {"a": None, "b": [1.5, 2], "c": {"d": None}}
    with pytest.raises(ProjectError, match="did not finish"):
        read_record(tmp_path / "absent.json")


def test_git_revision_has_both_fields() -> None:
    assert set(git_revision()) == {"revision", "dirty"}
