"""Files read on all cores: threads, a bar while it lasts, one line when it is done."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import cv2
import torch


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
