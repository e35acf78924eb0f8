"""One threaded pass over the files: finds the unreadable, keeps resized pictures in memory or on disk."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from src.atomic import atomic_path, write_json
from src.data.images import ImageError, lay_mask, read_mask, read_resized
from src.data.transforms import PreprocessSpec
from src.errors import ProjectError, nearest

CACHE_MODES = ("auto", "ram", "disk", "none")
MEMORY_SHARE = 0.25  # `auto` leaves three quarters of what is free to the model
_LAYOUT_VERSION = 1  # of the file on disk, and of the decoding: raise it when pixels change


@dataclass(frozen=True)
class BrokenImage:
    """An image that could not be read: where, why, and which split ("train", "test", "infer") it was in."""

    id: str
    path: str
    reason: str
    split: str


@dataclass
class ImageStore:
    """The outcome of the pass over `paths`: what is readable, how large it was, and the pixels, if kept.

    Pixels are n×H×W×3 uint8: a tensor in memory (shared with forked workers as it is, and with spawned ones
    through shared memory, by torch's own pickling), or a memory-mapped .npy that every process opens for
    itself.
    """

    paths: list[str]
    spec: PreprocessSpec
    mode: str
    sizes: np.ndarray  # n×2 int64 (height, width), 0 where unreadable
    broken: dict[int, str]  # position → reason
    memory: torch.Tensor | None = None
    file: Path | None = None
    _position: dict[str, int] = field(init=False, repr=False)
    _mapped: np.ndarray | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._position = {path: i for i, path in enumerate(self.paths)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}  # pickling a memory map would copy the whole file

    def size(self, path: str) -> tuple[int, int]:
        """Original (height, width) of a readable image."""
        height, width = self.sizes[self._position[path]]
        return int(height), int(width)

    def read(self, path: str) -> tuple[np.ndarray, tuple[int, int]]:
        """A fresh H×W×3 uint8 array, and the original (height, width)."""
        position = self._position[path]
        if self.memory is not None:
            return self.memory[position].numpy().copy(), self.size(path)
        if self.file is None:
            return read_resized(path, self.spec)
        if self._mapped is None:
            self._mapped = np.load(self.file, mmap_mode="r")
        return np.array(self._mapped[position]), self.size(path)


def build_store(
    paths: Sequence[str],
    spec: PreprocessSpec,
    *,
    mode: str = "auto",
    large: str = "disk",
    cache_dir: str | Path | None = None,
    processes: int = 1,
    what: str = "images",
) -> ImageStore:
    """Read every file once, with all cores, and keep what `mode` says.

    `auto` is `ram` when the pixels take less than a quarter of the free memory (counted once for each of
    `processes`, the ranks on this machine), else `large`: "disk" where pictures are used again each epoch,
    "none" where once. `disk` writes one file under `cache_dir` (default: the system's temporary folder),
    found again by the files' paths, sizes and dates and by the spec; a disk without room turns `auto` into
    `none`. With `none` the pass only verifies, so that no broken file ends a worker mid-epoch.

    Raises:
        ProjectError: an unknown mode, or `disk` without room.
    """
    paths = list(dict.fromkeys(map(str, paths)))
    if mode not in CACHE_MODES:
        raise ProjectError(
            f"cache must be one of {', '.join(CACHE_MODES)}, not {mode!r}.{nearest(mode, CACHE_MODES)}"
        )
    n_bytes = len(paths) * spec.height * spec.width * 3
    automatic = mode == "auto"
    if automatic:
        mode = "ram" if n_bytes * processes < MEMORY_SHARE * available_memory() else large
    folder = Path(cache_dir or Path(tempfile.gettempdir()) / f"image-cache-{getpass.getuser()}")
    file = folder / f"{_fingerprint(paths, spec)}.npy" if mode == "disk" else None
    if file is not None:
        if (found := _open_file(file, paths, spec)) is not None:
            return found
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        if free < 1.05 * n_bytes:
            if not automatic:
                raise ProjectError(
                    f"cache=disk needs {n_bytes / 2**30:.1f} GiB, {folder} has {free / 2**30:.1f}. "
                    "Set another cache_dir, or cache=none."
                )
            mode, file = "none", None
    with atomic_path(file) if file is not None else contextlib.nullcontext() as temporary:
        shape = (len(paths), spec.height, spec.width, 3)
        memory = torch.empty(shape, dtype=torch.uint8) if mode == "ram" else None
        if memory is not None:
            pixels = memory.numpy()
        elif temporary is not None:
            pixels = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            _reserve(temporary)
        else:
            pixels = None
        sizes, broken = np.zeros((len(paths), 2), np.int64), {}

        def keep(position: int) -> None:
            try:
                image, sizes[position] = read_resized(paths[position], spec)
            except ImageError as error:
                broken[position] = error.reason
                return
            if pixels is not None:
                pixels[position] = image

        verb = {"ram": "kept in memory", "disk": f"kept in {file}", "none": "verified"}[mode]
        parallel(keep, len(paths), what=what, closing=lambda: f"{len(broken)} unreadable; {verb}")
        if temporary is not None:
            pixels.flush()
            del pixels
    store = ImageStore(paths, spec, mode, sizes, dict(sorted(broken.items())), memory=memory, file=file)
    if file is not None:
        write_json(file.with_suffix(".json"), {"sizes": sizes.tolist(), "broken": list(store.broken.items())})
    return store


@dataclass
class MaskStore:
    """Masks at the model's size, one bit a pixel, in memory. `sizes` are the files' own (height, width)."""

    bits: torch.Tensor  # m×H×⌈W/8⌉ uint8
    width: int
    position: dict[str, int]
    sizes: dict[str, tuple[int, int]]

    def read(self, path: str) -> np.ndarray:
        """H×W uint8 {0, 1}."""
        return np.unpackbits(self.bits[self.position[path]].numpy(), axis=-1, count=self.width)


def build_masks(paths: Sequence[str], spec: PreprocessSpec) -> MaskStore:
    """Read every mask. Raises ImageError (a ProjectError) at the first that cannot be read."""
    paths = list(dict.fromkeys(map(str, paths)))
    bits = torch.empty((len(paths), spec.height, -(-spec.width // 8)), dtype=torch.uint8)
    sizes: dict[str, tuple[int, int]] = {}

    def keep(position: int) -> None:
        mask = read_mask(paths[position])
        sizes[paths[position]] = mask.shape
        bits[position] = torch.from_numpy(np.packbits(lay_mask(mask, spec), axis=-1))

    parallel(keep, len(paths), what="masks", closing=lambda: "kept in memory")
    return MaskStore(bits, spec.width, {path: i for i, path in enumerate(paths)}, sizes)


def parallel(function: Callable[[int], None], n: int, *, what: str, closing: Callable[[], str]) -> None:
    """function(0…n−1) on all cores, with a bar (rate, time left) on a terminal, and one closing line."""
    if n == 0:
        return
    began = time.monotonic()
    speaks = os.environ.get("LOCAL_RANK", "0") == "0"  # one voice when several ranks read
    with one_thread_each(), ThreadPoolExecutor(max_workers=min(n, cores())) as pool:
        try:
            for _ in _watched(pool.map(function, range(n)), n, what, visible=speaks and sys.stderr.isatty()):
                pass
        except BaseException:  # an interrupt too: do not read on to the end of 100,000 queued files
            pool.shutdown(cancel_futures=True)
            raise
    took = max(time.monotonic() - began, 1e-9)
    if speaks:
        print(f"read {n} {what} in {took:.1f} s ({n / took:.0f}/s), {closing()}", file=sys.stderr)


def _watched(results: Iterator[None], n: int, what: str, *, visible: bool) -> Iterator[None]:
    if not visible:
        yield from results
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(f"reading {what}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.0f} img/s, left"), TimeRemainingColumn(),
    )  # fmt: skip
    began = time.monotonic()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(what, total=n, rate=0.0)
        for done, result in enumerate(results, start=1):
            progress.update(bar, completed=done, rate=done / max(time.monotonic() - began, 1e-9))
            yield result


@contextlib.contextmanager
def one_thread_each() -> Iterator[None]:
    """Within, OpenCV and torch use one thread a call: the parallelism is over files."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int:
    """Bytes that can still be taken: the machine's available memory, or less under a container's limit."""
    import psutil

    free = psutil.virtual_memory().available
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or "max" for no limit
        free = min(free, max(0, int(limit.read_text()) - int(used.read_text())))
    return free


def _reserve(file: Path) -> None:
    """Take the disk blocks now: a memory map that meets a full disk later kills the process, wordless."""
    if hasattr(os, "posix_fallocate"):
        with file.open("rb+") as handle:
            os.posix_fallocate(handle.fileno(), 0, file.stat().st_size)


def _fingerprint(paths: Sequence[str], spec: PreprocessSpec) -> str:
    digest = hashlib.sha256(json.dumps([_LAYOUT_VERSION, spec.to_dict()]).encode())
    for path in paths:
        try:
            stat = Path(path).stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{path}\0missing\n".encode())
    return digest.hexdigest()[:32]


def _open_file(file: Path, paths: list[str], spec: PreprocessSpec) -> ImageStore | None:
    """An earlier run's file. Its index is written last: where the index stands, the pixels are whole."""
    index = file.with_suffix(".json")
    if not (file.exists() and index.exists()):
        return None
    known = json.loads(index.read_text(encoding="utf-8"))
    sizes = np.array(known["sizes"], dtype=np.int64).reshape(-1, 2)
    print(f"read {len(paths)} images from {file}, {len(known['broken'])} unreadable", file=sys.stderr)
    broken = {int(position): reason for position, reason in known["broken"]}
    return ImageStore(paths, spec, "disk", sizes, broken, file=file)
