"""One tree of errors. Each has an HTTP status, an OpenAI ``type`` and ``code``, and says what to do."""

from __future__ import annotations

import contextlib
import math
import re
from copy import copy
from time import time
from typing import Final

from portico.spelling import nearest as nearest
from portico.wire import ErrorBody

MAX_MESSAGE_LENGTH: Final = 4_000
"""Characters of an error's message: what a client has sent, and we quote, may be megabytes."""

MAX_PARAM_LENGTH: Final = 200
"""Characters of the place that an error names."""


class PorticoError(Exception):
    """The root. ``message`` is for a person: what is wrong, what was expected, what to do."""

    status = 500
    type = "server_error"
    code: str | None = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        if len(message) > MAX_MESSAGE_LENGTH:
            message = f"{message[:MAX_MESSAGE_LENGTH]} …"
        super().__init__(message)
        self.message = message
        self.param = (
            param if param is None or len(param) <= MAX_PARAM_LENGTH else f"{param[:MAX_PARAM_LENGTH]}…"
        )
        self.retry_after = retry_after
        """Seconds after which trying again makes sense, sent as ``Retry-After``."""
        if code is not None:
            self.code = code

    def body(self) -> ErrorBody:
        return ErrorBody(self.message, self.type, self.code, self.param)

    def without_folders(self) -> PorticoError:
        """The same for somebody who need not know where files lie on this machine."""
        portico_error = copy(self)
        portico_error.message = without_folders(self.message)
        return portico_error


_FOLDERS = re.compile(r"(?:(?<=file://)|(?<=fake://)|(?<![\w:/.]))/(?:[^/\s'\"<>]+/)+")


def without_folders(text: str) -> str:
    """``text`` with the names alone of the files of this machine whose paths are in it."""
    return _FOLDERS.sub("", text)


class InvalidRequest(PorticoError):
    """The request cannot be understood or cannot be carried out as it stands."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class Unauthenticated(PorticoError):
    """No key, or one that is not known here."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    metadata = ""
    """Where a client learns how to get in, on protocol adapters that have a document of that."""
    ask_for = ""
    """The scopes that a client asks the issuer for, with spaces between them; sent where ``metadata`` is."""


class Forbidden(PorticoError):
    """The key is known and the thing is visible to it, but the right is missing."""

    status = 403
    type = "permission_error"
    code = "insufficient_scope"


class NotFound(PorticoError):
    """No such thing, or none that this caller may see."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(PorticoError):
    """The path exists, the method does not."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(PorticoError):
    """The thing is in a state that does not allow this."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class TooLarge(PorticoError):
    """The body or the file is over a limit that the message names."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class TooMany(PorticoError):
    """A queue or a budget is full. ``retry_after`` says when to come back."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class EngineFailed(PorticoError):
    """The process behind a model crashed, hung or answered nonsense. The next call starts it again."""

    status = 502
    type = "server_error"
    code = "engine_failed"


class Unavailable(PorticoError):
    """Not now: still loading, shutting down, disk full."""

    status = 503
    type = "server_error"
    code = "unavailable"


class DeadlineExceeded(PorticoError):
    """A limit on waiting was reached."""

    status = 504
    type = "server_error"
    code = "timeout"


MAX_RETRY_AFTER_S: Final = 86_400.0
"""Seconds for which another server's wish counts."""


def retry_after_s(header: str | None) -> float | None:
    """Seconds to stay away, up to a day, of a header in seconds or as a date; ``None`` if it says neither.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    seconds = math.nan
    with contextlib.suppress(ValueError):
        seconds = float(header or "")
    if math.isnan(seconds):
        from email.utils import (
            parsedate_to_datetime,  # few servers send a date, and each start imports this module
        )

        with contextlib.suppress(ValueError, OverflowError):
            seconds = parsedate_to_datetime(header or "").timestamp() - time()
    return None if math.isnan(seconds) else min(max(0.0, seconds), MAX_RETRY_AFTER_S)
