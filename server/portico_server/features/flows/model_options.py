"""Checks the names of model options in a specification."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portico.model_options import flat_options, unknown_option
from portico_server.core.errors import InvalidRequest
from portico_server.core.invalid import wrong_type


def known_options(options: Mapping[str, Any], at: str) -> None:
    """Raise `InvalidRequest` for an unknown model option; ``at`` is the location of the options."""
    unknown = unknown_option(options)
    if unknown is not None:
        param = f"{at}.{unknown[0]}" if at else unknown[0]
        raise InvalidRequest(unknown[1], code="unknown_parameter", param=param)
    extra = options.get("extra_body")
    if extra is not None and not isinstance(extra, Mapping):
        wrong_type(f"{at}.extra_body" if at else "extra_body", "an object", extra, code="invalid_spec")


def model_options(options: Mapping[str, Any], at: str) -> dict[str, Any]:
    """Return checked model options as request fields. The fields in ``extra_body`` are merged into the others."""
    known_options(options, at)
    return flat_options(options)
