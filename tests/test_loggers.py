"""Loggers: CSV always, W&B offline without an account, each run finished inside the job."""

import json

import pandas as pd
import pytest

from src.errors import ProjectError
from src.loggers import RunLoggers
from src.runs import RunFolder
from tests.compose import compose


def settings(name: str) -> dict:
    return compose("train", "task=anomaly", f"logger={name}")["logger"]


@pytest.fixture
def accountless(monkeypatch, tmp_path) -> None:
    """No key in the environment, in a netrc, or in settings; and no mode chosen from outside."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))


def test_csv_only_starts_no_wandb(tmp_path) -> None:
    loggers = RunLoggers(settings("csv"), RunFolder(tmp_path), {"task": "anomaly"})
    kinds = [type(x).__name__ for x in loggers.for_fold(0)]
    assert kinds == ["CSVLogger"]
    loggers.summarize({}, pd.DataFrame(), [])
    assert not (tmp_path / "wandb").exists()


def test_wandb_without_an_account_is_an_offline_run(accountless, tmp_path, capsys) -> None:
    run = RunFolder(tmp_path / "my run")
    run.figures.mkdir(parents=True)
    loggers = RunLoggers(settings("all"), run, {"task": "anomaly", "seed": 0})
    made = loggers.for_fold(0)
    assert [type(x).__name__ for x in made] == ["CSVLogger", "TensorBoardLogger", "WandbLogger"]
    for logger in made:
        logger.log_metrics({"val/auroc": 0.9}, step=1)
        logger.save()
    loggers.finish_fold(last=True)
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(b"weights")
    table = pd.DataFrame({"id": ["007"], "score": [0.5], "map": [None], "probs": [None]})
    loggers.summarize({"oof": {"auroc": 0.9}, "threshold": None}, table, [checkpoint])
    folders = list((run.path / "wandb").glob("offline-run-*"))
    assert len(folders) == 1 and list(folders[0].glob("*.wandb"))
    assert "wandb sync" in capsys.readouterr().out
    tables = list(folders[0].rglob("*.table.json"))
    assert json.loads(tables[0].read_text())["data"] == [["007", 0.5]]
    assert list((run.path / "fold_0").rglob("events.out.tfevents.*")) and list(run.path.rglob("metrics.csv"))
    import wandb

    assert wandb.run is None


def test_folds_are_runs_of_one_group(accountless, tmp_path) -> None:
    loggers = RunLoggers(settings("wandb"), RunFolder(tmp_path), {"task": "anomaly"})
    names = []
    for fold in range(2):
        loggers.for_fold(fold)
        import wandb

        names.append((wandb.run.name, wandb.run.group))
        loggers.finish_fold(last=False)
        assert wandb.run is None
    assert names == [(f"{tmp_path.name}/fold_0", tmp_path.name), (f"{tmp_path.name}/fold_1", tmp_path.name)]


def test_an_unknown_mode_is_refused(tmp_path) -> None:
    chosen = settings("wandb")
    chosen["wandb"]["mode"] = "onlin"
    with pytest.raises(ProjectError, match="logger.wandb.mode"):
        RunLoggers(chosen, RunFolder(tmp_path), {})
