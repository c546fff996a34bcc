"""Environments that tests install once and share."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.daemon import ROOT

ENVIRONMENTS = Path(os.environ.get("PORTICO_TEST_ENVIRONMENTS", ROOT / ".portico-test" / "environments"))


@contextmanager
def alone(name: str) -> Iterator[None]:
    """Hold the lock on a shared name, since several test processes may create the same environment at once."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
