"""Where the numbers go: a CSV file always, Weights & Biases and TensorBoard when the configuration says so."""

import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from src.errors import ProjectError
from src.runs import RunFolder, shown_path

PROBE_SECONDS = 2.0


class RunLoggers:
    """The loggers of one run: each fold has its own set, and the closing figures go to the last or to a summary run.

    Folds of one run are separate W&B runs in one group, each finished inside the job; otherwise a second fold would
    go on writing into the first one's run.
    """

    def __init__(self, settings: dict[str, Any], run: RunFolder, config: dict[str, Any]) -> None:
        self._settings = settings
        self._run = run
        self._config = config
        self._wandb_run: Any = None
        self._warned = False
        mode = settings["wandb"]["mode"]
        if mode not in {"auto", "online", "offline"}:
            raise ProjectError(f"logger.wandb.mode={mode!r} is not known. Known: auto, online, offline.")

    def for_fold(self, fold: int) -> list[Any]:
        """Lightning loggers for one fold."""
        from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger

        folder = self._run.fold(fold)
        loggers: list[Any] = [CSVLogger(save_dir=str(folder), name="logs")]
        if self._settings["tensorboard"]["enabled"]:
            loggers.append(TensorBoardLogger(save_dir=str(folder), name="tensorboard"))
        if self._settings["wandb"]["enabled"] and self._start_wandb(f"fold_{fold}"):
            loggers.append(WandbLogger(experiment=self._wandb_run))
        return loggers

    def finish_fold(self, *, last: bool) -> None:
        """Close the fold's W&B run; a run of one fold keeps it open for the closing figures."""
        if self._wandb_run is not None and not last:
            self._wandb_run.finish()
            self._wandb_run = None

    def summarize(self, metrics: dict[str, Any], table: Any, checkpoints: list[Path]) -> None:
        """Send the run's figures, metrics, prediction table (a DataFrame) and checkpoints, then finish the W&B run."""
        if not self._settings["wandb"]["enabled"]:
            return
        if self._wandb_run is None and not self._start_wandb("summary"):
            return
        import wandb

        run = self._wandb_run
        run.summary.update(_flat(metrics))
        shown = table.head(2000).drop(columns=[c for c in ("probs", "map") if c in table])
        run.log({f"figures/{p.stem}": wandb.Image(str(p)) for p in sorted(self._run.figures.glob("*.png"))})
        run.log({"predictions": wandb.Table(dataframe=shown.astype({"id": str}))})
        if self._settings["wandb"]["artifact"] and checkpoints:
            artifact = wandb.Artifact(f"{self._config['task']}-{self._run.path.name}".replace(" ", "_"), type="model")
            for path in checkpoints:
                # immutable: uploaded from where it lies, not copied to a staging folder first
                artifact.add_file(str(path), name=f"{path.parent.name}/{path.name}", policy="immutable")
            run.log_artifact(artifact)
        self.close()

    def close(self, *, failed: bool = False) -> None:
        """Finish the W&B run, also after an error, so that the next job in this process starts its own."""
        if self._wandb_run is None:
            return
        directory = Path(self._wandb_run.dir).parent
        offline = self._wandb_run.offline
        self._wandb_run.finish(exit_code=1 if failed else 0)
        self._wandb_run = None
        if offline and not failed:
            print(f"W&B       offline; upload with: wandb sync {shown_path(directory)}")

    def _start_wandb(self, part: str) -> bool:
        if self._wandb_run is not None:
            return True
        import wandb

        settings = self._settings["wandb"]
        mode = os.environ.get("WANDB_MODE") or settings["mode"]
        if mode == "auto":
            mode = "online" if _logged_in(wandb) and _reachable(wandb) else "offline"
        try:
            self._wandb_run = wandb.init(
                project=settings["project"],
                entity=settings["entity"],
                name=f"{self._run.path.name}/{part}",
                group=self._run.path.name,
                job_type=part.split("_")[0],
                dir=str(self._run.path),
                config=self._config,
                mode=mode,
                settings=wandb.Settings(silent=True, console="off", save_code=False),
            )
        except (wandb.errors.Error, OSError) as error:
            if not self._warned:
                print(f"warning: W&B did not start ({error}); this run logs to CSV only. logger=csv switches it off.")
            self._warned = True
            return False
        return True


def _logged_in(wandb: Any) -> bool:
    """Whether credentials are at hand (environment, settings, netrc); asks nobody and calls no server."""
    return bool(wandb.login(prompt=False, verify=False))


def _reachable(wandb: Any) -> bool:
    """Whether the W&B server answers; its client would otherwise wait a minute and a half."""
    address = urlparse(os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, float]:
    """Nested metrics as `oof/auroc: 0.97`; only numbers."""
    flat: dict[str, float] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat.update(_flat(value, f"{prefix}{key}/"))
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[f"{prefix}{key}"] = value
    return flat
