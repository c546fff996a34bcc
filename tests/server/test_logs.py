"""What the daemon's log contains, and what it does not."""

import asyncio
import logging
import logging.handlers
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


@pytest.mark.parametrize(
    "secret",
    [
        "pk-abcdefghijklmnop",
        "Authorization: Bearer abcdefghijklmnop",
        "Authorization: Basic abcdefghijklmnop==",
        "postgresql://reader:abcdefghijklmnop@host/sales",
        "http://host/page?a=1&api_key=abcdefghijklmnop",
    ],
)
def test_the_log_contains_no_keys_in_lines_or_tracebacks(log: Path, secret: str) -> None:
    logging.getLogger("portico_server").warning("refused %s", secret)
    try:
        raise ValueError(secret)
    except ValueError:
        logging.getLogger("portico_server").exception("failed")
    text = log.read_text()
    assert text.count("…") == 2 and "ValueError" in text and "abcdefgh" not in text


def test_a_call_cancelled_by_shutdown_logs_no_traceback(log: Path) -> None:
    try:
        raise asyncio.CancelledError("Task cancelled, timeout graceful shutdown exceeded")
    except asyncio.CancelledError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    try:
        raise ValueError("a defect")
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
    assert log.read_text().count("Traceback") == 1 and "a defect" in log.read_text()


def test_folder_changes_are_not_logged_individually(log: Path) -> None:
    logging.getLogger("watchfiles.main").info("1 change detected")
    logging.getLogger("portico_server").info("served")
    assert "served" in log.read_text() and "change" not in log.read_text()


def test_logging_continues_after_a_full_disk(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = logging.getLogger("portico_server")
    ours.warning("before")
    ours.parent.handlers[0].close()  # type: ignore[union-attr]
    log.rename(log.with_suffix(".before"))
    log.symlink_to("/dev/full")
    for number in range(50):
        ours.warning("lost %d", number)
    error_text = capsys.readouterr().err
    assert "No space left on device" in error_text and str(log) in error_text
    assert error_text.count("\n") == 1, "it is said once, and without a traceback"
    log.unlink()
    ours.warning("after")
    assert "after" in log.read_text() and "50 lines were lost" in log.read_text()
    ours.warning("and on")
    assert "and on" in log.read_text() and log.read_text().count("were lost") == 1
    assert capsys.readouterr().err == ""


def test_logging_continues_after_a_rotation_failed_on_a_full_disk(
    log: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.handlers.RotatingFileHandler)
    handler.maxBytes = 200
    ours = logging.getLogger("portico_server")
    ours.warning("x" * 150)
    handler.stream.close()  # the state after a close with no space for the remaining data
    ours.warning("lost")
    for _ in range(3):
        ours.warning("y" * 150)
    assert "y" * 150 in log.read_text()
    assert capsys.readouterr().err.count("\n") == 1
