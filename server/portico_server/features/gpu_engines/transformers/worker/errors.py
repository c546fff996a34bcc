"""Refusals of the worker, in OpenAI's format."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An error response. The caller caused every status below 500."""

    def __init__(
        self, message: str, code: str | None = None, param: str | None = None, *, status: int = 400
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.param = param
        self.status = status

    def body(self) -> dict[str, Any]:
        """Return the error as a response body."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        if self.status == 429:
            kind = "rate_limit_error"
        fields = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": fields}


class UnusableModel(Exception):
    """A model that cannot be loaded; the message is for the user who added it."""


class CallerGone(Exception):
    """The caller has left, so the response is not needed."""
