"""A trial step with the longest example, which finds the micro batch that fits into memory."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psutil
import torch

USABLE_MEMORY_SHARE = 0.9
"""Share of the free memory that a step may use."""

POLL_INTERVAL_S = 0.01
"""Seconds between two checks of this process's memory; polling is the only way to find the peak."""


def fits_memory(step: Callable[[int], None], micro_batch: int) -> int:
    """Return the largest micro batch that fits: ``micro_batch``, halved as often as needed; at least 1.

    ``step`` computes a gradient for a number of copies of the longest example. A GPU tries each size. On a CPU, where
    using too much memory would kill the process, one example is measured and the result is extrapolated.
    """
    if not torch.cuda.is_available():
        free = psutil.virtual_memory().available * USABLE_MEMORY_SHARE
        with _Peak() as peak:
            step(1)
        possible = free / max(peak.grown, 1)
        while micro_batch > 1 and micro_batch > possible:
            micro_batch //= 2
        return micro_batch
    while True:
        try:
            step(micro_batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if micro_batch == 1:
                raise
            micro_batch //= 2
        else:
            torch.cuda.empty_cache()
            return micro_batch


class _Peak:
    """Measures the memory growth of this process, in bytes, within a ``with`` block."""

    def __init__(self) -> None:
        self.grown = 0
        self._process = psutil.Process()
        self._has_stopped = threading.Event()
        self._start_bytes = 0

    def __enter__(self) -> _Peak:
        self._start_bytes = self._used_bytes()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._has_stopped.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._has_stopped.wait(POLL_INTERVAL_S):
            self.grown = max(self.grown, self._used_bytes() - self._start_bytes)

    def _used_bytes(self) -> int:
        return int(self._process.memory_info().rss)
