"""The error tree. Each error has an HTTP status, an OpenAI ``type`` and ``code``, and a message that says what to
do.
"""

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
"""Maximum length of an error message, in characters, because a quoted client input may have megabytes."""

MAX_PARAM_LENGTH: Final = 200
"""Maximum length of the parameter that an error names, in characters."""


class PorticoError(Exception):
    """The base class of all errors. ``message`` is for people: what is wrong, what was expected, what to do."""

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
        """Seconds after which the client may retry, sent as ``Retry-After``."""
        if code is not None:
            self.code = code

    def body(self) -> ErrorBody:
        return ErrorBody(self.message, self.type, self.code, self.param)

    def without_folders(self) -> PorticoError:
        """Return the error without local paths, for a client that must not see them."""
        portico_error = copy(self)
        portico_error.message = without_folders(self.message)
        return portico_error


_FOLDERS = re.compile(r"(?:(?<=file://)|(?<=fake://)|(?<![\w:/.]))/(?:[^/\s'\"<>]+/)+")


def without_folders(text: str) -> str:
    """Return ``text`` with the local paths in it shortened to file names."""
    return _FOLDERS.sub("", text)


class InvalidRequest(PorticoError):
    """The request is malformed or cannot be carried out."""

    status = 400
    type = "invalid_request_error"
    code = "invalid_value"


class Unauthenticated(PorticoError):
    """The key is missing or unknown."""

    status = 401
    type = "authentication_error"
    code = "invalid_api_key"
    metadata = ""
    """URL of a document that tells a client how to authenticate, for protocol adapters that publish such a document."""
    ask_for = ""
    """The scopes, separated by spaces, that a client should request from the issuer; sent together with
    ``metadata``.
    """


class Forbidden(PorticoError):
    """The key is valid and can see the object, but lacks the permission."""

    status = 403
    type = "permission_error"
    code = "insufficient_scope"


class NotFound(PorticoError):
    """The object does not exist, or the caller cannot see it."""

    status = 404
    type = "invalid_request_error"
    code = "not_found"


class MethodNotAllowed(PorticoError):
    """The path exists, but the method does not."""

    status = 405
    type = "invalid_request_error"
    code = "method_not_allowed"


class Conflict(PorticoError):
    """The state of the object does not allow the request."""

    status = 409
    type = "invalid_request_error"
    code = "conflict"


class TooLarge(PorticoError):
    """The body or the file exceeds a limit that the message names."""

    status = 413
    type = "invalid_request_error"
    code = "request_too_large"


class TooMany(PorticoError):
    """A queue or a budget is full. ``retry_after`` says when to try again."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class EngineFailed(PorticoError):
    """The process behind a model crashed, hung or returned invalid output. The next call restarts the process."""

    status = 502
    type = "server_error"
    code = "engine_failed"


class Unavailable(PorticoError):
    """The daemon cannot handle the request now: for example, a model is loading, the daemon is shutting down, or the
    disk is full.
    """

    status = 503
    type = "server_error"
    code = "unavailable"


def shutting_down() -> Unavailable:
    """Return the error of work that the end of the daemon cuts off. Another daemon or the next start can do it."""
    return Unavailable("Portico is shutting down. Try again shortly.", code="shutting_down", retry_after=1.0)


class DeadlineExceeded(PorticoError):
    """A wait has reached its time limit."""

    status = 504
    type = "server_error"
    code = "timeout"


MAX_RETRY_AFTER_S: Final = 86_400.0
"""Maximum seconds accepted from another server's ``Retry-After`` header."""


def retry_after_s(header: str | None) -> float | None:
    """Return the seconds to wait, up to a day, from a ``Retry-After`` header, which contains seconds or a date;
    ``None`` if it is invalid.

    https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    seconds = math.nan
    with contextlib.suppress(ValueError):
        seconds = float(header or "")
    if math.isnan(seconds):
        from email.utils import (
            # imported only if needed: few servers send a date, and every start imports this
            # module
            parsedate_to_datetime,
        )

        with contextlib.suppress(ValueError, OverflowError):
            seconds = parsedate_to_datetime(header or "").timestamp() - time()
    return None if math.isnan(seconds) else min(max(0.0, seconds), MAX_RETRY_AFTER_S)
