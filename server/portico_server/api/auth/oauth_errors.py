"""Errors of the OAuth endpoints, with the codes of RFC 6749."""

from __future__ import annotations

from portico_server.core.errors import InvalidRequest


class OAuthError(InvalidRequest):
    """A request that an RFC refuses. ``code`` is the RFC's error code."""

    def __init__(self, code: str, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message, code=code, retry_after=retry_after)


class RegistrationLimited(OAuthError):
    """Too many clients were registered."""

    status = 429


class RedirectedError(OAuthError):
    """An error that the client learns from the browser, which returns to ``location``."""

    def __init__(self, code: str, message: str, location: str) -> None:
        super().__init__(code, message)
        self.location = location
