"""Logging of the daemon: one line per event, as text or JSON, to standard error and a file of limited size."""

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

_SECRET = re.compile(
    r"(?i)(\b(?:pk-|sk-|hf_|Bearer\s+|Basic\s+)|://[^\s:/@]{0,64}:(?=[^\s/@]{1,200}@)"
    r"|[?&][\w-]{0,40}(?:key|token|secret|passw(?:or)?d)=)[A-Za-z0-9_\-\.=+/%~!$*,;:]{6,}"
)
"""Keys, passwords of addresses, and parameters of addresses that are named like secrets."""

MAX_LOG_BYTES = 5 * 1024 * 1024
BACKUP_FILES = 3


class _RedactFilter(logging.Filter):
    """Removes keys from all log records, and from their tracebacks."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = _without_secrets(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = _without_secrets(record.exc_text)
        return True


def _without_secrets(text: str) -> str:
    return _SECRET.sub(r"\1…", text)


class _TruncateFilter(logging.Filter):
    """Shortens the errors of calls that a shutdown has interrupted, because they are no defects. The previous log line
    contains their number.
    """

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
            line["traceback"] = record.exc_text or self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _File(logging.handlers.RotatingFileHandler):
    """A log file that is opened again after a failed write, for example on a full disk. It then reports how many lines
    were lost.
    """

    _lost_count = 0
    """Number of consecutive lines that could not be written."""

    def emit(self, record: logging.LogRecord) -> None:
        before = self._lost_count
        super().emit(record)
        if before and before == self._lost_count:
            self._lost_count = 0
            text = f"{before} lines were lost because the log could not be written"
            super().emit(
                logging.makeLogRecord({**record.__dict__, "msg": text, "args": None, "exc_info": None})
            )

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exception()
        if not isinstance(error, OSError | ValueError):  # from a closed file
            super().handleError(record)
            return
        # Writing the buffered data of the stream would fail again, and a failed rotation may have closed the
        # stream.
        stream, self.stream = self.stream, None  # the next line opens the file again
        with suppress(OSError, ValueError):
            if stream is not None:
                stream.close()
        self._lost_count += 1
        if self._lost_count == 1 and sys.stderr is not None:
            with suppress(OSError, ValueError):
                print(f"The log {self.baseFilename} cannot be written: {error}", file=sys.stderr)


_ANYBODYS = (
    "ASGI callable returned without completing handshake.",
    "Invalid UTF-8 sequence received from client.",
)
"""Errors that uvicorn logs whenever a WebSocket is rejected, or a client sends invalid UTF-8 over one."""


def _not_anybodys(record: logging.LogRecord) -> bool:
    """Return false for lines with which any client could fill the log. The response to the client is sufficient."""
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
