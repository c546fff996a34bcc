"""Where a remote model is and how it is to be treated, settled from its spec, the presets and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.engines.endpoint import Endpoint
from portico_server.engines.fallback import fallbacks
from portico_server.engines.remote.anthropic.ask import MAX_TOKENS
from portico_server.engines.remote.providers import PROVIDERS, Provider, Wire
from portico_server.engines.remote.quirks import Quirks
from portico_server.engines.sources import parse
from portico_server.engines.spec import ModelSpec

RETRIES = 2
IDLE = 120.0
PATIENCE = 60.0

PARAMETERS = {
    "base_url": "another address of the provider, such as a proxy",
    "headers": "further HTTP headers, an object of texts",
    "retries": f"further attempts when the provider is busy, {RETRIES} unless given",
    "stall_timeout": f"seconds of silence in mid-stream after which it counts as broken, {IDLE:g} unless given",
    "requests_per_minute": "requests that the provider allows; further ones wait for their turn",
    "tokens_per_minute": "tokens that the provider allows, of prompts and answers together",
    "wait_limit": f"longest that a call waits for its turn, in seconds; {PATIENCE:g} unless given",
    "fallback": "names of models that are asked when this one fails before its first byte",
    "max_tokens": "what an answer may have if the caller sets no limit (Anthropic)",
    "context_length": "tokens that one call may have, for those who ask",
    "dimensions": "length of its vectors, for those who ask",
}
"""What ``parameters`` of a remote model may hold."""


@dataclass(frozen=True, slots=True)
class Place:
    """``keyed`` is false while the key is missing that ``variable`` would hold. ``idle`` and ``patience`` in seconds;
    ``requests`` and ``tokens`` for a minute, ``None`` for any number.
    """

    endpoint: Endpoint
    wire: Wire
    quirks: Quirks
    variable: str
    keyed: bool
    retries: int
    idle: float
    max_tokens: int
    fallback: tuple[str, ...]
    requests: int | None
    tokens: int | None
    patience: float

    @property
    def paced(self) -> bool:
        """Whether calls may have to wait for their turn."""
        return self.requests is not None or self.tokens is not None


def find(spec: ModelSpec, environment: Mapping[str, str] | None = None) -> Place:
    """Settle everything. Raises `InvalidRequest` that names the parameter."""
    environment = os.environ if environment is None else environment
    given = spec.parameters
    unknown = sorted(given.keys() - PARAMETERS.keys())
    if unknown:
        raise InvalidRequest(
            f"A remote model has no parameter '{unknown[0]}'.{nearest(unknown[0], PARAMETERS)} It has "
            f"{', '.join(PARAMETERS)}.",
            param=f"parameters.{unknown[0]}",
        )
    headers = given.get("headers") or {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidRequest(
            f"The headers of '{spec.name}' must be an object of texts.", param="parameters.headers"
        )
    provider, model = _provider(spec)
    url = _address(spec, provider, environment)
    key = spec.api_key or (environment.get(provider.key, "") if provider.key else "")
    if provider.wire == "anthropic":
        headers = {"anthropic-version": "2023-06-01", **headers}
    if provider.header and key:
        endpoint = Endpoint(url, model, "", {provider.header: key, **headers})
    else:
        endpoint = Endpoint(url, model, key, headers)
    return Place(
        endpoint,
        provider.wire,
        provider.quirks,
        provider.key,
        bool(key) or not provider.key,
        int(_number(spec, "retries", RETRIES, whole=True)),
        _number(spec, "stall_timeout", IDLE),
        int(_number(spec, "max_tokens", MAX_TOKENS, whole=True)),
        fallbacks(spec),
        _per_minute(spec, "requests_per_minute"),
        _per_minute(spec, "tokens_per_minute"),
        _number(spec, "wait_limit", PATIENCE),
    )


def _provider(spec: ModelSpec) -> tuple[Provider, str]:
    """The preset, or one made of the URL, and the model's name there."""
    source = parse(spec.source)
    if source.scheme in ("http", "https"):
        return Provider(source.location), source.model
    if source.scheme != "remote":
        raise InvalidRequest(
            f"The engine 'remote' takes http(s)://HOST/v1#MODEL or remote://PROVIDER/MODEL, not "
            f"'{spec.source}'.",
            param="source",
        )
    provider = PROVIDERS.get(source.location)
    if provider is None:
        raise InvalidRequest(
            f"There is no preset for the provider '{source.location}'.{nearest(source.location, PROVIDERS)} "
            f"Presets are {', '.join(PROVIDERS)}; any other server is http(s)://HOST/v1#MODEL.",
            param="source",
        )
    return provider, source.model


def _address(spec: ModelSpec, provider: Provider, environment: Mapping[str, str]) -> str:
    """The parameter, then the environment, then the preset; without a slash at its end."""
    given: Any = spec.parameters.get("base_url")
    if given is None and provider.address:
        given = environment.get(provider.address)
    if not given:
        if not provider.url:
            raise InvalidRequest(
                f"'{spec.name}' needs an address: set {provider.address}, or the parameter 'base_url'.",
                param="parameters.base_url",
            )
        return provider.url
    if not isinstance(given, str) or urlsplit(given).scheme not in ("http", "https"):
        raise InvalidRequest(
            f"The address of '{spec.name}' must be an http(s) URL, not '{given}'.",
            param="parameters.base_url",
        )
    url = given.rstrip("/")
    return url if url.endswith(provider.suffix) else url + provider.suffix


def _per_minute(spec: ModelSpec, name: str) -> int | None:
    if spec.parameters.get(name) is None:
        return None
    number = int(_number(spec, name, 1, whole=True))
    if number < 1:
        raise InvalidRequest(
            f"The parameter '{name}' of '{spec.name}' must be a whole number of at least 1; leave it out for no "
            "limit.",
            param=f"parameters.{name}",
        )
    return number


def _number(spec: ModelSpec, name: str, default: float, *, whole: bool = False) -> float:
    value = spec.parameters.get(name, default)
    good = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
    if not good or value < 0:
        kind = "a whole number" if whole else "a number"
        raise InvalidRequest(
            f"The parameter '{name}' of '{spec.name}' must be {kind} of at least 0.",
            param=f"parameters.{name}",
        )
    return float(value)
