"""What the daemon's log holds, and what it does not."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from portico_server import logs


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.configure(tmp_path, "info", "text", quiet=True)
    yield tmp_path / "daemon.log"
    for handler in root.handlers:
        handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def test_keys_are_not_in_it(log: Path) -> None:
    logging.getLogger("portico_server").warning("refused %s", "pk-abcdefghijklmnop")
    assert "pk-…" in log.read_text() and "abcdefgh" not in log.read_text()


def test_a_call_that_was_cut_off_by_the_end_of_the_daemon_is_no_traceback(log: Path) -> None:
    try:
        raise asyncio.CancelledError("Task cancelled, timeout graceful shutdown exceeded")
    except asyncio.CancelledError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    try:
        raise ValueError("a defect")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    assert log.read_text().count("Traceback") == 1 and "a defect" in log.read_text()


def test_each_change_in_a_folder_is_no_line_of_it(log: Path) -> None:
    logging.getLogger("watchfiles.main").info("1 change detected")
    logging.getLogger("portico_server").info("served")
    assert "served" in log.read_text() and "change" not in log.read_text()
