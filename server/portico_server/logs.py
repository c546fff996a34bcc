"""Logging of the daemon: one line an event, as text or JSON, to standard error and a file of bounded size."""

from __future__ import annotations

import asyncio
import json
import logging
import logging.handlers
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

_SECRET = re.compile(r"(?i)\b(pk-|sk-|hf_|Bearer\s+)[A-Za-z0-9_\-\.=]{6,}")

MAX_LOG_BYTES = 5 * 1024 * 1024
BACKUP_FILES = 3


class _RedactFilter(logging.Filter):
    """Keys never reach a log, whatever was logged."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        record.msg, record.args = _SECRET.sub(r"\1…", message), None
        return True


class _TruncateFilter(logging.Filter):
    """A call that was cut off when the daemon stopped is not a defect: the line before says how many there were."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _File(logging.handlers.RotatingFileHandler):
    """A file that is reopened after a failed write, as on a full disk, and then says how many lines it lacks."""

    _lost = 0
    """Lines in a row that could not be written."""

    def emit(self, record: logging.LogRecord) -> None:
        before = self._lost
        super().emit(record)
        if before and before == self._lost:
            self._lost = 0
            text = f"{before} lines were lost: the log could not be written"
            super().emit(
                logging.makeLogRecord({**record.__dict__, "msg": text, "args": None, "exc_info": None})
            )

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if not isinstance(error, OSError | ValueError):  # of a file that is closed
            super().handleError(record)
            return
        # What its buffers hold would fail again, and a rotation that could not close it leaves it closed.
        stream, self.stream = self.stream, None  # opened by the next line
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.close()
        self._lost += 1
        if self._lost == 1 and sys.stderr is not None:
            with suppress(OSError, ValueError):
                print(f"The log {self.baseFilename} cannot be written: {error}", file=sys.stderr)


_ANYBODYS = (
    "ASGI callable returned without completing handshake.",
    "Invalid UTF-8 sequence received from client.",
)
"""What uvicorn writes as errors whenever a WebSocket is refused, or sends something else than text."""


def _not_anybodys(record: logging.LogRecord) -> bool:
    """Not a line that whoever reaches the port could fill the log with: the client was answered, which is enough."""
    return record.msg not in _ANYBODYS


def configure(folder: Path, level: str, form: str, *, quiet: bool) -> None:
    """Log to ``folder/daemon.log``, and to standard error unless ``quiet``."""
    folder.mkdir(parents=True, exist_ok=True)
    handlers: list[logging.Handler] = [
        _File(
            folder / "daemon.log",
            maxBytes=MAX_LOG_BYTES,
            backupCount=BACKUP_FILES,
            encoding="utf-8",
            delay=True,
        )
    ]
    if not quiet:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.addFilter(_RedactFilter())
        handler.addFilter(_TruncateFilter())
        handler.setFormatter(
            _JsonFormatter()
            if form == "json"
            else logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s")
        )
    root = logging.getLogger()
    root.setLevel(level.upper())
    root.handlers[:] = handlers
    for noisy in ("uvicorn.error", "uvicorn.access", "mcp", "alembic", "httpx", "watchfiles"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
    logging.getLogger("uvicorn.error").addFilter(_not_anybodys)
