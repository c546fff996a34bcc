"""Determines a remote model's address and settings from its spec, the presets and the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, get_args
from urllib.parse import urlsplit

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import (
    InvalidRequest,
    nearest,
)
from portico_server.models.endpoint import Endpoint
from portico_server.models.engines.openai_client.quirks import Quirks
from portico_server.models.engines.remote.anthropic_messages import DEFAULT_MAX_TOKENS
from portico_server.models.engines.remote.providers import (
    PROVIDERS,
    ModelProvider,
    TuningForm,
    WireFormat,
    parse_provider,
)
from portico_server.models.fallback import fallbacks
from portico_server.models.sources import parse_source
from portico_server.models.spec import ModelSpec, Task

DEFAULT_RETRIES = 2
DEFAULT_IDLE_TIMEOUT_S = 120.0
DEFAULT_MAX_WAIT_S = 60.0

TUNING_FORMS: tuple[str, ...] = get_args(TuningForm)
"""Supported forms of fine-tuning APIs."""

PARAMETERS = {
    "base_url": "address to use instead of the provider's own, such as a proxy",
    "headers": "additional HTTP headers, an object with text values",
    "retries": f"retries when the provider is busy, {DEFAULT_RETRIES} by default",
    "stall_timeout": "seconds of silence within a stream after which the connection counts as broken, "
    f"{DEFAULT_IDLE_TIMEOUT_S:g} by default",
    "requests_per_minute": "requests per minute that the provider allows; further requests wait for their turn",
    "tokens_per_minute": "tokens per minute that the provider allows, prompts and answers together",
    "wait_limit": f"longest time that a call waits for its turn, in seconds; {DEFAULT_MAX_WAIT_S:g} by default",
    "fallback": "names of models to call when this model fails before its first byte",
    "max_tokens": "maximum tokens of an answer if the caller sets no limit (Anthropic)",
    "context_length": "maximum tokens of one call, as reported to clients",
    "providers": "definitions of providers without a preset, keyed by name, in the format of the configuration",
    "dimensions": "length of the model's vectors, as reported to clients",
    "tuning": "the format of the provider's fine-tuning API, if no preset specifies it: "
    + ", ".join(TUNING_FORMS),
    "training_price": "US dollars per million trained tokens",
}
"""Valid ``parameters`` of a remote model."""


@dataclass(frozen=True, slots=True)
class RemoteTarget:
    """The address, key and limits of a remote model.

    ``keyed`` is false if the key that ``variable`` names is missing. ``idle`` and ``max_wait_s`` are in seconds;
    ``requests`` and ``tokens`` are per minute, ``None`` for no limit.
    """

    endpoint: Endpoint
    wire: WireFormat
    quirks: Quirks
    variable: str
    keyed: bool
    retries: int
    idle: float
    max_tokens: int
    fallback: tuple[str, ...]
    requests: int | None
    tokens: int | None
    max_wait_s: float

    @property
    def paced(self) -> bool:
        """Return whether calls may have to wait for their turn."""
        return self.requests is not None or self.tokens is not None


def find_target(spec: ModelSpec, environment: Mapping[str, str] | None = None) -> RemoteTarget:
    """Determine the target of a model. Raise `InvalidRequest` that names the parameter."""
    environment = os.environ if environment is None else environment
    parameters = spec.parameters
    unknown = sorted(parameters.keys() - PARAMETERS.keys())
    if unknown:
        raise InvalidRequest(
            f"A remote model has no parameter '{unknown[0]}'.{nearest(unknown[0], PARAMETERS)} Valid "
            f"parameters: {', '.join(PARAMETERS)}.",
            param=f"parameters.{unknown[0]}",
        )
    headers = parameters.get("headers") or {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidRequest(
            f"The headers of '{spec.name}' must be an object with text values.", param="parameters.headers"
        )
    form = parameters.get("tuning")
    if form is not None and form not in TUNING_FORMS:
        raise InvalidRequest(
            f"'tuning' of '{spec.name}' must be one of {', '.join(TUNING_FORMS)}, not {form!r}.",
            param="parameters.tuning",
        )
    if parameters.get("training_price") is not None:
        number_of(spec, "training_price", 0.0)
    provider, model = provider_of(spec)
    url = _address(spec, provider, environment)
    key = spec.api_key or (environment.get(provider.key, "") if provider.key else "")
    if provider.wire == "anthropic":
        headers = {"anthropic-version": "2023-06-01", **headers}
    if provider.header and key:
        endpoint = Endpoint(url, model, "", {provider.header: key, **headers})
    else:
        endpoint = Endpoint(url, model, key, headers)
    return RemoteTarget(
        endpoint,
        provider.wire,
        provider.quirks,
        provider.key,
        bool(key) or not provider.key,
        int(number_of(spec, "retries", DEFAULT_RETRIES, is_whole=True)),
        number_of(spec, "stall_timeout", DEFAULT_IDLE_TIMEOUT_S),
        int(number_of(spec, "max_tokens", DEFAULT_MAX_TOKENS, is_whole=True)),
        fallbacks(spec),
        _per_minute(spec, "requests_per_minute"),
        _per_minute(spec, "tokens_per_minute"),
        number_of(spec, "wait_limit", DEFAULT_MAX_WAIT_S),
    )


def provider_of(spec: ModelSpec) -> tuple[ModelProvider, str]:
    """Return the provider (a preset, or one built from the URL) and the provider's name for the model."""
    source = parse_source(spec.source)
    if source.scheme in ("http", "https"):
        return ModelProvider(source.location), source.model
    if source.scheme != "remote":
        raise InvalidRequest(
            "The engine 'remote' needs http(s)://HOST/v1#MODEL or remote://PROVIDER/MODEL, not "
            f"'{spec.source}'.",
            param="source",
        )
    providers = spec.parameters.get("providers") or {}
    if source.location in providers:
        at = f"parameters.providers.{source.location}"
        return parse_provider(providers[source.location], at), source.model
    provider = PROVIDERS.get(source.location)
    if provider is None:
        raise InvalidRequest(
            f"No preset exists for the provider '{source.location}'.{nearest(source.location, PROVIDERS)} "
            f"Presets: {', '.join(PROVIDERS)}. For any other server, use http(s)://HOST/v1#MODEL.",
            param="source",
        )
    return provider, source.model


def _address(spec: ModelSpec, provider: ModelProvider, environment: Mapping[str, str]) -> str:
    """Return the address without a trailing slash: from the parameter, else the environment, else the preset."""
    base_url: Any = spec.parameters.get("base_url")
    if base_url is None and provider.address:
        base_url = environment.get(provider.address)
    if not base_url:
        if not provider.url:
            raise InvalidRequest(
                f"'{spec.name}' needs an address: set {provider.address}, or the parameter 'base_url'.",
                param="parameters.base_url",
            )
        return provider.url
    if not isinstance(base_url, str) or urlsplit(base_url).scheme not in ("http", "https"):
        raise InvalidRequest(
            f"The address of '{spec.name}' must be an http(s) URL, not '{base_url}'.",
            param="parameters.base_url",
        )
    url = base_url.rstrip("/")
    return url if url.endswith(provider.suffix) else url + provider.suffix


def _per_minute(spec: ModelSpec, name: str) -> int | None:
    if spec.parameters.get(name) is None:
        return None
    number = int(number_of(spec, name, 1, is_whole=True))
    if number < 1:
        raise InvalidRequest(
            f"The parameter '{name}' of '{spec.name}' must be a whole number of at least 1; leave it out for no "
            "limit.",
            param=f"parameters.{name}",
        )
    return number


def number_of(spec: ModelSpec, name: str, default: float, *, is_whole: bool = False) -> float:
    """Return a numeric parameter of a model. Raise `InvalidRequest` if it is not a valid number."""
    value = spec.parameters.get(name, default)
    good = isinstance(value, int if is_whole else int | float) and not isinstance(value, bool)
    if not good or value < 0:
        kind = "a whole number" if is_whole else "a number"
        raise InvalidRequest(
            f"The parameter '{name}' of '{spec.name}' must be {kind} of at least 0.",
            param=f"parameters.{name}",
        )
    return float(value)


WORK: Mapping[Task, str] = {
    "embedding": "embeddings",
    "rerank": "reranking",
    "moderation": "moderation",
    "speech": "speech",
    "transcription": "transcription",
    "image": "pictures",
}
