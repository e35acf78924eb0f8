"""The table of runs: a row a run, groups over seeds, what is left out and why, and files of it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from src.compare import main, tabulate
from src.errors import ProjectError
from src.finished_runs import find_runs
from tests.conftest import run_command


def make_run(
    folder: Path,
    name: str,
    *,
    model: str = "padim",
    seed: int = 0,
    shots: int | None = None,
    value: float | None = 0.9,
    graded: float | None = 0.8,
    metric: tuple[str, str] = ("f1", "max"),
    task: str = "anomaly",
    finished: bool = True,
    **more: Any,
) -> Path:
    run = folder / name
    run.mkdir(parents=True)
    config = {
        "task": task, "run": name, "seed": seed, "outputs": str(folder), "data": {"shots": shots, "batch_size": 16},
        "model": {"name": model, "layers": ["layer1", "layer2"]}, "competition": {"name": "made_up"},
    }  # fmt: skip
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    figures = {"metric": graded, "auroc": 0.95, "f1": graded}
    metrics = {
        "metric": {"name": metric[0], "value": value, "mode": metric[1]},
        "oof": {"metric": value, "auroc": 0.97, "f1": value},
        "graded": None if graded is None else figures,
    }
    (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    record = {
        "task": task, "competition": more.get("competition", "made_up"), "seconds": {"fit": 12.34, "predict": 5.0},
        "peak_memory": {"process_gib": 1.5},
    }  # fmt: skip
    if finished:
        (run / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return run


@pytest.fixture
def protocol(tmp_path: Path) -> Path:
    """Two models, two numbers of shots, three seeds."""
    for model, start in (("classifier", 0.6), ("metric", 0.7)):
        for shots, gain in ((1, 0.0), (5, 0.2)):
            for seed in range(3):
                name = f"{model}_{shots}_{seed}"
                value = start + gain + 0.01 * seed
                make_run(tmp_path / "runs", name, model=model, seed=seed, shots=shots, value=value, graded=value - 0.1)
    return tmp_path / "runs"


def table_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    assert main(list(arguments)) == 0
    lines = capsys.readouterr().out.splitlines()
    return [[cell for cell in line.split("  ") if cell] for line in lines]


def test_a_row_a_run_best_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("low", 0.5), ("unknown", None), ("high", 0.91234)):
        make_run(tmp_path, name, value=value)
    header, *lines = table_of(capsys, f"runs={tmp_path}/*")
    assert [part.strip() for part in header] == [
        "run", "f1 OOF", "f1 graded", "auroc OOF", "auroc graded", "fit s", "predict s", "memory GiB",
    ]  # fmt: skip
    assert [line[0] for line in lines] == ["high", "low", "unknown"]
    assert [part.strip() for part in lines[0][1:]] == ["0.9123", "0.8000", "0.9700", "0.9500", "12.3", "5.0", "1.50"]
    assert lines[2][1].strip() == "-"


def test_less_is_better_where_the_metric_says_so(tmp_path: Path) -> None:
    for name, value in (("b", 3.0), ("a", 1.0), ("c", 2.0)):
        make_run(tmp_path, name, value=value, metric=("count_mae", "min"), task="detection")
    runs, _ = find_runs(f"{tmp_path}/*")
    rows = tabulate(runs)
    assert [row.labels for row in rows] == [("a",), ("c",), ("b",)]
    assert "auroc OOF" not in rows[0].figures


def test_groups_over_seeds(protocol: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header, *lines, last = table_of(capsys, f"runs={protocol}/*", "by=[data.shots,model]")
    assert [part.strip() for part in header[:5]] == ["data.shots", "model", "runs", "f1 OOF", "f1 graded"]
    found = [tuple(part.strip() for part in line[:5]) for line in lines]
    assert found == [
        ("5", "metric", "3", "0.9100 ± 0.0100", "0.8100 ± 0.0100"),
        ("5", "classifier", "3", "0.8100 ± 0.0100", "0.7100 ± 0.0100"),
        ("1", "metric", "3", "0.7100 ± 0.0100", "0.6100 ± 0.0100"),
        ("1", "classifier", "3", "0.6100 ± 0.0100", "0.5100 ± 0.0100"),
    ]
    assert last == ["± is the standard deviation over: seed"]
    *_, last = table_of(capsys, f"runs={protocol}", "by=model.name")
    assert last == ["± is the standard deviation over: seed, data.shots"]


def test_a_single_run_has_no_deviation_and_unknown_values_are_not_counted(tmp_path: Path) -> None:
    make_run(tmp_path, "a", seed=0, value=0.4, graded=None)
    make_run(tmp_path, "b", seed=1, value=None, graded=0.6)
    make_run(tmp_path, "c", seed=2, value=None, graded=0.8)
    row = tabulate(find_runs(f"{tmp_path}/*")[0], ["model"])[0]
    assert row.runs == 3 and row.figures["OOF"] == (0.4, None)
    mean, deviation = row.figures["graded"]
    assert mean == pytest.approx(0.7) and deviation == pytest.approx(0.02**0.5)


def test_other_competitions_are_not_mixed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "a", value=0.4)
    make_run(tmp_path, "b", value=0.6, competition="another")
    header, *lines = table_of(capsys, f"runs={tmp_path}/*", "by=model")
    assert [part.strip() for part in header[:5]] == ["competition", "metric", "model", "runs", "metric OOF"]
    assert [(line[0].strip(), line[4].strip()) for line in lines] == [("another", "0.6000"), ("made_up", "0.4000")]


def test_unfinished_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "done")
    make_run(tmp_path, "half", finished=False)
    cut = make_run(tmp_path, "cut")
    (cut / "metrics.json").write_text('{"metric": ', encoding="utf-8")
    (tmp_path / "no_run").mkdir()
    assert main([f"runs={tmp_path}/*"]) == 0
    printed = capsys.readouterr()
    assert "half" not in printed.out and "done" in printed.out
    assert "left out  half: " in printed.err and "run.json is missing" in printed.err
    assert "left out  cut: " in printed.err and "no_run" not in printed.err
    with pytest.raises(ProjectError, match="none of these runs is finished:\n  half: "):
        find_runs(f"[{tmp_path}/half, {tmp_path}/cut]")


def test_files(protocol: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("csv", "md"):
        table_of(capsys, f"runs={protocol}", "by=model,data.shots", f"out={tmp_path}/table.{suffix}")
    frame = pd.read_csv(tmp_path / "table.csv")
    assert frame["model"].tolist() == ["metric", "classifier"] * 2 and frame["runs"].tolist() == [3] * 4
    assert frame["OOF"].tolist() == pytest.approx([0.91, 0.81, 0.71, 0.61])
    assert frame["OOF std"].tolist() == pytest.approx([0.01] * 4)
    lines = (tmp_path / "table.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("| model | data.shots | runs | f1 OOF |")
    assert lines[1].startswith("| --- | --- | ---: |") and len(lines) == 6
    assert lines[2].startswith("| metric | 5 | 3 | 0.9100 ± 0.0100 |")
    table_of(capsys, f"runs={protocol}", f"out={tmp_path}/runs.csv")
    assert "OOF std" not in pd.read_csv(tmp_path / "runs.csv") and len(pd.read_csv(tmp_path / "runs.csv")) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["by=model"], "no runs are given"),
        (["runs={}/*", "buy=model"], "unknown key 'buy'. Did you mean 'by'"),
        (["runs={}/*", "by=data.shot"], "by=data.shot: no run's configuration has this key. Did you mean 'data.shots'"),
        (["runs={}/*", "by=data"], "by=data is a section of the configuration: name one of its keys (data.shots, "),
        (["runs={}/*", "out=table.xlsx"], "out=table.xlsx: give a file that ends in .csv or .md"),
        (["runs={}/nowhere*"], "names no run folder"),
        (["{}/a"], "is not key=value"),
    ],
)
def test_mistakes(arguments: list[str], message: str, protocol: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([text.format(protocol) for text in arguments]) == 1
    assert message in capsys.readouterr().err


def test_runs_of_one_name_are_told_by_their_paths(tmp_path: Path) -> None:
    make_run(tmp_path / "one", "a")
    make_run(tmp_path / "two", "a")
    runs, _ = find_runs(f"{tmp_path}/*/a")
    assert [run.name for run in runs] == [str(tmp_path / "one" / "a"), str(tmp_path / "two" / "a")]


def test_korean_names_are_aligned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path, "타일", value=0.9)
    make_run(tmp_path, "long_name", value=0.8)
    assert main([f"runs={tmp_path}/*"]) == 0
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.index("0.9000") + 2 == second.index("0.8000")


def test_the_command_starts_fast_and_helps() -> None:
    done = run_command("-m", "src.compare", "--help")
    assert done.returncode == 0 and "runs=<…>" in done.stdout
    code = "import sys; import src.compare; assert not {'torch', 'pandas', 'hydra'} & set(sys.modules)"
    assert run_command("-c", code).returncode == 0
