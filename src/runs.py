"""The run folder: created once, refused twice, resumed on request, and the record of what was run."""

import datetime
import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from src.atomic import write_json, write_text
from src.errors import ProjectError

REPOSITORY = Path(__file__).resolve().parent.parent
_RECORDED_PACKAGES = (
    "torch", "lightning", "timm", "transformers", "anomalib", "albumentations", "numpy", "pandas",
    "scikit-learn", "opencv-python-headless",
)  # fmt: skip


def in_repository(path: str | Path) -> Path:
    """An absolute path; a relative one is taken from the repository's root, so that commands work from anywhere."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else REPOSITORY / path


@dataclass(frozen=True)
class RunFolder:
    """Paths inside `outputs/<task>/<run>/`."""

    path: Path

    @classmethod
    def create(cls, outputs: Path, task: str, name: str | None, *, resume: bool) -> "RunFolder":
        """Make the folder, or with `resume` open the one that is there.

        Raises:
            ProjectError: the name is not a plain folder name; the folder exists and `resume` is false;
                `resume` is true and there is nothing to continue.
        """
        path = cls.refuse(outputs, task, name, resume=resume)
        if resume and path is not None:
            return cls(path)
        stamp = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
        for attempt in range(1000):
            path = outputs / task / (name or (stamp if attempt == 0 else f"{stamp}-{attempt}"))
            try:
                path.mkdir(parents=True)
                return cls(path)
            except FileExistsError:
                if name is not None:  # made since the check, by a run started at the same time
                    cls.refuse(outputs, task, name, resume=False)
            except OSError as error:
                raise ProjectError(f"could not make {path}: {error.strerror}. Choose another outputs=…") from error
        raise ProjectError(f"no free run name at {outputs / task}/{stamp}. Give one: run=<name>.")

    @staticmethod
    def refuse(outputs: Path, task: str, name: str | None, *, resume: bool) -> Path | None:
        """The checks of `create` without making anything, so that a mistake is told before the long imports.

        Returns:
            The named run's folder; None for a run that is to be named by the time.
        """
        if name is not None and not re.fullmatch(r"[\w.\- ]*[\w\-]", name):
            raise ProjectError(f"run={name!r} is not a folder name. Use letters, digits, '_', '-' and '.'.")
        path = outputs / task / name if name is not None else None
        if not resume:
            if path is not None and path.exists():
                raise ProjectError(
                    f"{path} exists already, and a run never overwrites another. "
                    "Choose another name (run=…), or continue it with resume=true, or delete the folder."
                )
            return path
        if path is None:
            raise ProjectError("resume=true needs the name of the run to continue. Add run=<name>.")
        if not (path / "config.yaml").is_file():
            known = sorted(p.parent.name for p in (outputs / task).glob("*/config.yaml"))
            raise ProjectError(
                f"resume=true, but {path} holds no run to continue. "
                f"Runs there: {', '.join(known) if known else 'none'}. Leave resume out to start it."
            )
        return path

    @property
    def predictions(self) -> Path:
        return self.path / "predictions"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def fold(self, index: int) -> Path:
        return self.path / f"fold_{index}"

    def shown(self) -> str:
        """The path as a user would type it: relative to the working folder where it lies below it."""
        return shown_path(self.path)


def shown_path(path: Path) -> str:
    """A path for messages: relative to the working folder where it lies below it, else absolute."""
    try:
        return str(Path(path).resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def open_run(path: str | Path) -> RunFolder:
    """An existing run by its folder, for inference and submissions.

    Raises:
        ProjectError: the folder is absent, or is not a finished run; the message lists the runs that exist beside it.
    """
    if str(path) == "???":
        raise ProjectError("no run is given. Add run=outputs/<task>/<run>, the folder of a finished run.")
    for candidate in (Path(path).expanduser(), in_repository(path)):
        if (candidate / "config.yaml").is_file():
            return RunFolder(candidate.resolve())
    parent = in_repository(path).parent
    known = sorted(shown_path(p.parent) for p in parent.glob("*/config.yaml")) if parent.is_dir() else []
    raise ProjectError(
        f"{path} is not a run folder (no config.yaml in it). "
        + (f"Runs there: {', '.join(known)}." if known else "Train one first: python train.py task=anomaly")
    )


def config_hash(config: dict[str, Any]) -> str:
    """SHA-256 over the resolved configuration, without what does not change the result (run name, resume)."""
    relevant = {k: v for k, v in config.items() if k not in {"run", "resume", "outputs", "logger", "report"}}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()


def git_revision() -> dict[str, Any]:
    """The commit that the code stands at and whether files differ from it; nulls outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    status = git("status", "--porcelain", "--untracked-files=no")
    return {"revision": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


def versions() -> dict[str, str]:
    """Python's and the main packages' versions, as installed."""
    found = {"python": platform.python_version()}
    for name in _RECORDED_PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def hardware() -> dict[str, Any]:
    """Processor, cores, memory in GiB and CUDA devices of this machine."""
    import psutil
    import torch

    return {
        "platform": platform.platform(),
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _processor_name() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def peak_memory() -> dict[str, float]:
    """Peak resident memory of this process and, with CUDA, of its allocations, in GiB."""
    import torch

    peak = {}
    try:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024  # macOS reports bytes, Linux kibibytes
        peak["process_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30, 2)
    except ImportError:  # Windows has no resource module
        import psutil

        peak["process_gib"] = round(psutil.Process().memory_info().peak_wset / 2**30, 2)
    if torch.cuda.is_available():
        peak["cuda_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return peak


def write_config(run: RunFolder, config: dict[str, Any]) -> None:
    """Keep the resolved configuration as config.yaml, keys in the order that the configuration has."""
    import yaml

    write_text(run.path / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def read_config(run: RunFolder) -> dict[str, Any]:
    """The configuration that a run was started with."""
    import yaml

    return yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8"))


def read_record(path: Path) -> dict[str, Any]:
    """A JSON file of the run (run.json, metrics.json).

    Raises:
        ProjectError: the file is missing, which means that the run did not finish.
    """
    if not path.is_file():
        raise ProjectError(
            f"{shown_path(path)} is missing: the run did not finish. "
            "Continue it with the same command plus resume=true."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def write_record(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON file of the run whole; NaN and infinities become null, which every reader understands."""
    write_json(path, _finite(value))


def _finite(value: Any) -> Any:
    import math

    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
