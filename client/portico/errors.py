"""The tree of errors. Each error has the ``status``, ``type``, ``code`` and ``param`` that the daemon reported."""

from __future__ import annotations

from portico.wire import ErrorBody


class PorticoError(Exception):
    """The base class of all errors. ``message`` is a sentence for people; ``status`` is the HTTP status, if any.

    Example::

        from portico import Client, PorticoError

        with Client() as client:
            try:
                client.search("no-such-store", "bread")
            except PorticoError as error:
                print(error.status, error.code, error.message)
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str = "server_error",
        code: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.type = type
        self.code = code
        self.param = param
        """The field of the request that is invalid, such as ``messages[2].content``."""
        self.request_id = request_id
        """The id of the request, for finding it in the daemon's log."""
        self.retry_after = retry_after
        """Seconds to wait before a retry."""

    def body(self) -> ErrorBody:
        """Return the error in OpenAI's format."""
        return ErrorBody(self.message, self.type, self.code, self.param)


class InvalidRequest(PorticoError):
    """400, 405, 422: the request is invalid or cannot be executed."""


class Unauthenticated(PorticoError):
    """401: no key, or a key that the daemon does not know."""


class Forbidden(PorticoError):
    """403: the key is known, but lacks the permission."""


class NotFound(PorticoError):
    """404: the object does not exist, or this key cannot see it."""


class Conflict(PorticoError):
    """409: the state of the object does not allow the operation."""


class TooLarge(PorticoError):
    """413: the body or the file exceeds a limit; the message gives the limit."""


class TooMany(PorticoError):
    """429: a queue or a budget is full; ``retry_after`` says when to retry."""


class ServerFailed(PorticoError):
    """5xx: the daemon or an engine behind it failed."""


class EngineFailed(ServerFailed):
    """502: the process of a model crashed, hung or returned invalid data. The next call restarts the process."""


class Unavailable(ServerFailed):
    """503: temporarily unavailable: loading, shutting down, or out of disk space."""


class DeadlineExceeded(ServerFailed):
    """504, or the client's own time limit."""


class Cancelled(PorticoError):
    """The run was cancelled."""


class ConnectionFailed(PorticoError):
    """No daemon responds at the URL."""


class ConnectionLost(ConnectionFailed):
    """The connection ended during a response."""


class NotPortico(PorticoError):
    """A server responds at the URL, but not as a Portico daemon."""


_BY_STATUS: dict[int, type[PorticoError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    429: TooMany,
    502: EngineFailed,
    503: Unavailable,
    504: DeadlineExceeded,
}

_BY_CODE: dict[str, type[PorticoError]] = {
    "cancelled": Cancelled,
    "invalid_api_key": Unauthenticated,
    "insufficient_scope": Forbidden,
    "not_found": NotFound,
    "model_not_found": NotFound,
    "conflict": Conflict,
    "request_too_large": TooLarge,
    "rate_limit_exceeded": TooMany,
    "engine_failed": EngineFailed,
    "unavailable": Unavailable,
    "timeout": DeadlineExceeded,
}

_BY_TYPE: dict[str, type[PorticoError]] = {
    "invalid_request_error": InvalidRequest,
    "authentication_error": Unauthenticated,
    "permission_error": Forbidden,
    "rate_limit_error": TooMany,
}


def from_status(
    status: int, body: ErrorBody, *, request_id: str | None = None, retry_after: float | None = None
) -> PorticoError:
    """Return the error for an HTTP status, with the message from ``body``."""
    fallback = ServerFailed if status >= 500 else InvalidRequest
    return _BY_STATUS.get(status, fallback)(
        body.message,
        status=status,
        type=body.type,
        code=body.code,
        param=body.param,
        request_id=request_id,
        retry_after=retry_after,
    )


def from_body(body: ErrorBody, *, request_id: str | None = None) -> PorticoError:
    """Return the error for an error event in a stream. Such an event has no HTTP status."""
    cls = _BY_CODE.get(body.code or "") or _BY_TYPE.get(body.type, ServerFailed)
    return cls(body.message, type=body.type, code=body.code, param=body.param, request_id=request_id)
