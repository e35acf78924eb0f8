"""Ultralytics, imported only when asked for, without network, without its traces in home and process, or a clear hint.

Ultralytics stands under AGPL-3.0 and is no requirement of this project: whoever installs it takes that licence.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator
from functools import lru_cache
from importlib import import_module
from types import ModuleType

import torch

from src.errors import ProjectError

HINT = (
    "the detector {name} needs the package ultralytics, which is not installed. It stands under AGPL-3.0, a licence "
    "that reaches what is built on it; if that suits you: pip install ultralytics. "
    "Else model=compact is the nearest of the project's own detectors, under this project's licence."
)


def ultralytics_module(name: str, *, asked_for: str) -> ModuleType:
    """A module of ultralytics, such as "nn.tasks".

    The package is told to stay offline, keeps its settings in a folder that is gone at the end (or in YOLO_CONFIG_DIR,
    if that is set), and what its import changes in the process is put back: torch.save, OpenCV's threads, printing, the
    environment.

    Raises:
        ProjectError: ultralytics is not installed; the message says how, its licence, and another detector.
    """
    try:
        with _as_it_was():
            module = import_module(f"ultralytics.{name}")
            settings = import_module("ultralytics.utils").SETTINGS
            dict.__setitem__(settings, "sync", False)  # in this process only: its own setter writes to a file
        return module
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0] == "ultralytics":
            raise ProjectError(HINT.format(name=asked_for)) from error
        raise ProjectError(f"ultralytics lacks its own requirement {error.name}: pip install {error.name}.") from error


@lru_cache(maxsize=1)
def _settings_folder() -> str:
    folder = tempfile.mkdtemp(prefix="ultralytics-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Put back what importing ultralytics changes for everybody."""
    if "ultralytics" in sys.modules:
        yield
        return
    import cv2
    import numpy as np

    environment, save, threads = dict(os.environ), torch.save, cv2.getNumThreads()
    reading = {name: getattr(cv2, name) for name in ("imread", "imwrite", "imshow")}
    printing = np.get_printoptions()
    os.environ["YOLO_OFFLINE"] = "true"  # else it asks two name servers, and later its own
    os.environ.setdefault("YOLO_CONFIG_DIR", _settings_folder())
    os.environ["YOLO_VERBOSE"] = "false"
    logging.getLogger("ultralytics").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        os.environ.clear()
        os.environ.update(environment)
        torch.save = save
        torch.set_printoptions(profile="default")
        np.set_printoptions(**printing)
        cv2.setNumThreads(threads)
        for name, function in reading.items():
            setattr(cv2, name, function)
