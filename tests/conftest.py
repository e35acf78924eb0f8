"""Shared by all tests: a quiet, accountless, networkless environment, and where measured real data may lie."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # processes that share cores wait for one another's threads


def run_command(*arguments: str, cwd: Path = REPOSITORY, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    """Run this Python on `arguments` as a user would, output captured as text."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data for measuring; tests that need it skip where it is absent."""
    path = Path(os.environ.get("SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("no real data here; name their folder in SHARED_DATA")
    return path
