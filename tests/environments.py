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
    """While nobody else makes what is shared under this name: several processes of tests may come for it at once."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
