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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.atomic import atomic_path, write_json
from src.data.images import ImageError, lay_mask, read_image, read_mask, read_resized
from src.data.parallel import parallel
from src.data.tiles import Window, lay_window, read_placed
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

    `windows` says of which part of each (see `src.data.tiles`), None of all of it; its size is the window's.

    Pixels are n×H×W×3 uint8: a tensor in memory (shared with forked workers as it is, and with spawned ones
    through shared memory, by torch's own pickling), or a memory-mapped .npy that every process opens for
    itself.
    """

    paths: list[str]
    spec: PreprocessSpec
    mode: str
    sizes: np.ndarray  # n×2 int64 (height, width), 0 where unreadable
    broken: dict[int, str]  # position → reason
    windows: list[Window | None]
    memory: torch.Tensor | None = None
    file: Path | None = None
    _position: dict[tuple[str, Window | None], int] = field(init=False, repr=False)
    _mapped: np.ndarray | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        self._position = {key: i for i, key in enumerate(zip(self.paths, self.windows, strict=True))}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}  # pickling a memory map would copy the whole file

    def size(self, path: str, window: Window | None = None) -> tuple[int, int]:
        """Original (height, width) of a readable image, or of its window."""
        height, width = self.sizes[self._position[path, window]]
        return int(height), int(width)

    def reason(self, path: str, window: Window | None = None) -> str | None:
        """Why it cannot be read; None where it can."""
        return self.broken.get(self._position[path, window])

    def read(self, path: str, window: Window | None = None) -> tuple[np.ndarray, tuple[int, int]]:
        """A fresh H×W×3 uint8 array, and the original (height, width)."""
        position = self._position[path, window]
        if self.memory is not None:
            return self.memory[position].numpy().copy(), self.size(path, window)
        if self.file is None:
            return read_placed(path, window, self.spec)
        if self._mapped is None:
            self._mapped = np.load(self.file, mmap_mode="r")
        return np.array(self._mapped[position]), self.size(path, window)


def build_store(
    paths: Sequence[str],
    spec: PreprocessSpec,
    *,
    windows: Sequence[Window | None] | None = None,
    mode: str = "auto",
    large: str = "disk",
    cache_dir: str | Path | None = None,
    processes: int = 1,
    what: str = "images",
) -> ImageStore:
    """Read every file once, with all cores, and keep what `mode` says.

    `windows`, one for each of `paths`, names the part that a row is of (None: the whole); a file is decoded
    once for all of its windows.

    `auto` is `ram` when the pixels take less than a quarter of the free memory (counted once for each of
    `processes`, the ranks on this machine), else `large`: "disk" where pictures are used again each epoch,
    "none" where once. `disk` writes one file under `cache_dir` (default: the system's temporary folder),
    found again by the files' paths, sizes and dates and by the spec; a disk without room turns `auto` into
    `none`. With `none` the pass only verifies, so that no broken file ends a worker mid-epoch.

    Raises:
        ProjectError: an unknown mode, or `disk` without room.
    """
    paths = [str(path) for path in paths]
    unique = dict.fromkeys(zip(paths, [None] * len(paths) if windows is None else windows, strict=True))
    paths, windows = [path for path, _ in unique], [window for _, window in unique]
    if mode not in CACHE_MODES:
        raise ProjectError(
            f"cache must be one of {', '.join(CACHE_MODES)}, not {mode!r}.{nearest(mode, CACHE_MODES)}"
        )
    n_bytes = len(paths) * spec.height * spec.width * 3
    automatic = mode == "auto"
    if automatic:
        mode = "ram" if n_bytes * processes < MEMORY_SHARE * available_memory() else large
    folder = Path(cache_dir or Path(tempfile.gettempdir()) / f"image-cache-{getpass.getuser()}")
    file = folder / f"{_fingerprint(paths, windows, spec)}.npy" if mode == "disk" else None
    if file is not None:
        if (found := _open_file(file, paths, windows, spec)) is not None:
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

        files = list(dict.fromkeys(paths))
        positions_of: dict[str, list[int]] = {}
        for position, path in enumerate(paths):
            positions_of.setdefault(path, []).append(position)

        def keep(number: int) -> None:
            positions, decoded = positions_of[files[number]], None
            for position in positions:
                path, window = files[number], windows[position]
                try:
                    if window is None:
                        image, sizes[position] = read_resized(path, spec)
                    else:
                        decoded = read_image(path) if decoded is None else decoded
                        image, sizes[position] = lay_window(decoded, window, spec, path)
                except ImageError as error:
                    broken[position] = error.reason
                    continue
                if pixels is not None:
                    pixels[position] = image

        verb = {"ram": "kept in memory", "disk": f"kept in {file}", "none": "verified"}[mode]
        parallel(keep, len(files), what=what, closing=lambda: f"{len(broken)} unreadable; {verb}")
        if temporary is not None:
            pixels.flush()
            del pixels
    store = ImageStore(
        paths, spec, mode, sizes, dict(sorted(broken.items())), windows, memory=memory, file=file
    )
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


def _fingerprint(paths: Sequence[str], windows: Sequence[Window | None], spec: PreprocessSpec) -> str:
    digest = hashlib.sha256(json.dumps([_LAYOUT_VERSION, spec.to_dict()]).encode())
    for path in paths:
        try:
            stat = Path(path).stat()
            digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        except OSError:
            digest.update(f"{path}\0missing\n".encode())
    if any(window is not None for window in windows):
        digest.update(json.dumps(list(windows)).encode())
    return digest.hexdigest()[:32]


def _open_file(
    file: Path, paths: list[str], windows: list[Window | None], spec: PreprocessSpec
) -> ImageStore | None:
    """An earlier run's file. Its index is written last: where the index stands, the pixels are whole."""
    index = file.with_suffix(".json")
    if not (file.exists() and index.exists()):
        return None
    known = json.loads(index.read_text(encoding="utf-8"))
    sizes = np.array(known["sizes"], dtype=np.int64).reshape(-1, 2)
    print(f"read {len(paths)} images from {file}, {len(known['broken'])} unreadable", file=sys.stderr)
    broken = {int(position): reason for position, reason in known["broken"]}
    return ImageStore(paths, spec, "disk", sizes, broken, windows, file=file)
