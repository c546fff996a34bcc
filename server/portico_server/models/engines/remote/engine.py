"""A model behind somebody's HTTP API: where it is, its limits per minute, and retries."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args
from urllib.parse import urlsplit

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import (
    EngineFailed,
    InvalidRequest,
    PorticoError,
    TooMany,
    Unavailable,
    nearest,
)
from portico_server.core.hosted_tuning import HostedTuner
from portico_server.core.rate_bucket import RateBucket
from portico_server.core.relay import Relay, RelayResponse
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
from portico_server.models.in_flight import HeldAnswer
from portico_server.models.known_models import profile_of
from portico_server.models.openai_wire import EngineRefused, UpstreamFailed
from portico_server.models.protocol import EngineClient, LaunchContext, ModelDescription, RunningEngine
from portico_server.models.sources import parse_source
from portico_server.models.spec import ModelSpec, Task
from portico_server.models.token_usage import estimate_tokens

# Where a remote model is and how it is to be treated, settled from its spec, the presets and the environment.


DEFAULT_RETRIES = 2
DEFAULT_IDLE_TIMEOUT_S = 120.0
DEFAULT_MAX_WAIT_S = 60.0

TUNING_FORMS: tuple[str, ...] = get_args(TuningForm)
"""Whose forms of a fine-tuning API are known."""

PARAMETERS = {
    "base_url": "another address of the provider, such as a proxy",
    "headers": "further HTTP headers, an object of texts",
    "retries": f"further attempts when the provider is busy, {DEFAULT_RETRIES} unless given",
    "stall_timeout": f"seconds of silence in mid-stream after which it counts as broken, {DEFAULT_IDLE_TIMEOUT_S:g} "
    "unless given",
    "requests_per_minute": "requests that the provider allows; further ones wait for their turn",
    "tokens_per_minute": "tokens that the provider allows, of prompts and answers together",
    "wait_limit": f"longest that a call waits for its turn, in seconds; {DEFAULT_MAX_WAIT_S:g} unless given",
    "fallback": "names of models that are asked when this one fails before its first byte",
    "max_tokens": "what an answer may have if the caller sets no limit (Anthropic)",
    "context_length": "tokens that one call may have, for those who ask",
    "providers": "providers without a preset, by their names, as the configuration describes them",
    "dimensions": "length of its vectors, for those who ask",
    "tuning": "the form of its fine-tuning API, where no preset says it: " + ", ".join(TUNING_FORMS),
    "training_price": "US dollars for a million trained tokens",
}
"""What ``parameters`` of a remote model may hold."""


@dataclass(frozen=True, slots=True)
class RemoteTarget:
    """``keyed`` is false while the key is missing that ``variable`` would hold. ``idle`` and ``patience`` in seconds;
    ``requests`` and ``tokens`` for a minute, ``None`` for any number.
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
        """Whether calls may have to wait for their turn."""
        return self.requests is not None or self.tokens is not None


def find_target(spec: ModelSpec, environment: Mapping[str, str] | None = None) -> RemoteTarget:
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
    form = given.get("tuning")
    if form is not None and form not in TUNING_FORMS:
        raise InvalidRequest(
            f"'tuning' of '{spec.name}' is one of {', '.join(TUNING_FORMS)}, not {form!r}.",
            param="parameters.tuning",
        )
    if given.get("training_price") is not None:
        _number(spec, "training_price", 0.0)
    provider, model = _provider(spec)
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
        int(_number(spec, "retries", DEFAULT_RETRIES, whole=True)),
        _number(spec, "stall_timeout", DEFAULT_IDLE_TIMEOUT_S),
        int(_number(spec, "max_tokens", DEFAULT_MAX_TOKENS, whole=True)),
        fallbacks(spec),
        _per_minute(spec, "requests_per_minute"),
        _per_minute(spec, "tokens_per_minute"),
        _number(spec, "wait_limit", DEFAULT_MAX_WAIT_S),
    )


def _provider(spec: ModelSpec) -> tuple[ModelProvider, str]:
    """The preset, or one made of the URL, and the model's name there."""
    source = parse_source(spec.source)
    if source.scheme in ("http", "https"):
        return ModelProvider(source.location), source.model
    if source.scheme != "remote":
        raise InvalidRequest(
            f"The engine 'remote' takes http(s)://HOST/v1#MODEL or remote://PROVIDER/MODEL, not "
            f"'{spec.source}'.",
            param="source",
        )
    described = spec.parameters.get("providers") or {}
    if source.location in described:
        at = f"parameters.providers.{source.location}"
        return parse_provider(described[source.location], at), source.model
    provider = PROVIDERS.get(source.location)
    if provider is None:
        raise InvalidRequest(
            f"There is no preset for the provider '{source.location}'.{nearest(source.location, PROVIDERS)} "
            f"Presets are {', '.join(PROVIDERS)}; any other server is http(s)://HOST/v1#MODEL.",
            param="source",
        )
    return provider, source.model


def _address(spec: ModelSpec, provider: ModelProvider, environment: Mapping[str, str]) -> str:
    """The parameter, then the environment, then the preset; without a slash at the end."""
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


_WORK: Mapping[Task, str] = {
    "embedding": "embeddings",
    "rerank": "reranking",
    "moderation": "moderation",
    "speech": "speech",
    "transcription": "transcription",
    "image": "pictures",
}


class Remote:
    """``http(s)://HOST/v1#MODEL`` or ``remote://PROVIDER/MODEL``.

    Parameters: see `portico_server.models.engines.remote.engine`.
    """

    name = "remote"
    fetches = False

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        target = find_target(spec)
        known = profile_of(spec.source)
        task: Task = cast("Task", spec.task) if spec.task != "auto" else known.task if known else "chat"
        if task != "chat" and target.wire == "anthropic":
            raise InvalidRequest(f"This provider has no {_WORK[task]}.", param="task")
        if task == "embedding" and target.fallback:
            raise InvalidRequest(
                f"'{spec.name}' makes embeddings, and another model's vectors cannot stand in for them: "
                "leave out 'fallback'.",
                param="parameters.fallback",
            )
        context = spec.parameters.get("context_length", known.context_length if known else None)
        dimensions = spec.parameters.get("dimensions", known.dimensions if known else None)
        if task == "chat":
            return ModelDescription(
                "chat",
                context,
                messages=target.wire == "anthropic",
                answers="write",
                long_prompts=True,
                hosted=True,
                files=True,
            )
        if task == "embedding":
            return ModelDescription("embedding", context, dimensions, hosted=True)
        pictures = target.quirks.pictures
        return ModelDescription(
            task,
            context,
            edits=task == "image" and (pictures.edits or bool(pictures.inside)),
            hosted=True,
        )

    def tuner(self, spec: ModelSpec) -> HostedTuner | None:
        """See `portico_server.models.protocol.TunesElsewhere`."""
        provider, model = _provider(spec)
        form = spec.parameters.get("tuning") or provider.tuning
        if not form:
            return None
        from portico_server.models.engines.remote.tuning import TUNERS

        target = find_target(spec)
        source = parse_source(spec.source)
        name = source.location if source.scheme == "remote" else urlsplit(source.location).netloc
        made = TUNERS[form](target.endpoint, model, name, _missing_key(spec, target))
        if spec.parameters.get("training_price") is not None:
            made.price = _number(spec, "training_price", 0.0)
        return made

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        target = find_target(spec)
        if missing := _missing_key(spec, target):
            raise InvalidRequest(missing, code="missing_provider_key", param="api_key")
        return RunningEngine(_client(spec.name, target, site), self.describe(spec, path))


def _missing_key(spec: ModelSpec, target: RemoteTarget) -> str:
    """What to do about a key that is missing; empty where it is there."""
    if target.keyed:
        return ""
    return f"'{spec.name}' needs a key: give the model an 'api_key', or set {target.variable} where the daemon starts."


def _client(name: str, target: RemoteTarget, site: LaunchContext) -> EngineClient:
    # aiohttp is imported by now; this module is imported before it.
    from portico_server.http.client import failure_reason
    from portico_server.models.engines.openai_client.passthrough import Passthrough
    from portico_server.models.engines.openai_client.quirks import QuirksClient
    from portico_server.models.engines.remote.anthropic_client import AnthropicClient
    from portico_server.models.upstream import Upstream

    async def explain(error: BaseException) -> PorticoError:
        return EngineFailed(
            f"The server of '{name}' cannot be reached or broke off: {failure_reason(error)}. Check the address in the "
            "model's source and that it runs.",
            code="upstream_unreachable",
        )

    upstream = Upstream(site.transport, target.endpoint, name, explain, idle=target.idle)
    client: EngineClient
    if target.wire == "anthropic":
        client = AnthropicClient(upstream, max_tokens=target.max_tokens)
    else:
        client = Passthrough(upstream, request_usage=target.quirks.stream_usage)
    if target.paced:
        client = PacedClient(
            client, name, requests=target.requests, tokens=target.tokens, max_wait_s=target.max_wait_s
        )
    if target.retries:
        client = RetryingClient(client, target.retries)
    return client if target.quirks == Quirks() else QuirksClient(client, target.quirks, name)


# Calls held back until a provider allows them: so many requests and so many tokens a minute.


MINUTE_S = 60.0


class PacedClient:
    """A `EngineClient` before another one. Callers wait for their turn in the order in which they came.

    ``requests`` and ``tokens`` are for a minute, ``None`` for no limit; ``patience`` is the longest wait in seconds.
    """

    def __init__(
        self, inner: EngineClient, name: str, *, requests: int | None, tokens: int | None, max_wait_s: float
    ) -> None:
        self._inner = inner
        self._name = name
        self._max_wait_s = max_wait_s
        now = asyncio.get_running_loop().time()
        self._requests = None if requests is None else RateBucket(requests, MINUTE_S, now)
        self._tokens = None if tokens is None else RateBucket(tokens, MINUTE_S, now)

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`. Raises `TooMany` if the turn would come too late."""
        guess = reserved_tokens(request.body) if self._tokens is not None else 0
        await self._turn(guess, deadline)
        try:
            relayed = await self._inner.relay(request, deadline)
        except BaseException:
            self._correct(guess, 0)
            raise

        def left(_error: BaseException | None) -> None:
            used = relayed.usage.prompt_tokens + relayed.usage.completion_tokens
            self._correct(guess, used or guess)

        relayed.chunks = HeldAnswer(relayed.chunks, left)
        return relayed

    async def _turn(self, tokens: int, deadline: float | None) -> None:
        loop = asyncio.get_running_loop()
        # Taken at once, so that whoever comes later waits behind us.
        wait = max(self._take(self._requests, 1), self._take(self._tokens, tokens))
        left = self._max_wait_s if deadline is None else min(self._max_wait_s, deadline - loop.time())
        if wait > left:
            self._give_back(tokens)
            raise TooMany(
                f"'{self._name}' is called more often than its limit for this provider allows; the next turn comes in "
                f"{wait:.0f} s, which is longer than the {max(0.0, left):.0f} s that a call waits. Try again later, or "
                "set 'requests_per_minute' and 'tokens_per_minute' of the model to what the provider really allows.",
                code="provider_limit",
                retry_after=wait,
            )
        if wait:
            try:
                await asyncio.sleep(wait)  # time is what is waited for
            except BaseException:
                self._give_back(tokens)
                raise

    def _take(self, bucket: RateBucket | None, amount: float) -> float:
        """Take ``amount``; the seconds until it is really there."""
        if bucket is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        bucket.take(min(amount, bucket.size), now)  # a call above the limit of a minute waits for a full one
        return bucket.wait(0, now)

    def _give_back(self, tokens: int) -> None:
        self._take(self._requests, -1)
        self._take(self._tokens, -min(tokens, self._tokens.size if self._tokens else 0))

    def _correct(self, guess: int, used: int) -> None:
        """Put what a call really took in place of what was taken for it."""
        if self._tokens is not None:
            self._tokens.take(used - min(guess, self._tokens.size), asyncio.get_running_loop().time())


def reserved_tokens(body: Mapping[str, Any]) -> int:
    """Tokens that a call may take: its texts, and the most that it lets the model answer."""
    most = body.get("max_completion_tokens") or body.get("max_tokens") or 0
    return estimate_tokens(body) + (most if isinstance(most, int) else 0)


# A call tried again where that is safe: refused for now, and nothing of an answer has come.


FIRST_PAUSE_S = 0.5
"""Seconds before the first further attempt; doubled each time."""

MAX_PAUSE_S = 20.0
"""Seconds that a caller is kept waiting for one further attempt. Who is asked to come back later than that is
told so at once."""

PASSING_STATUSES = frozenset({502, 503, 504, 529})
"""A server's own failures that pass. A 500 is not among them: the call may have been carried out."""

SPENT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""Codes of a 429 that no waiting helps with."""


def is_passing(error: PorticoError) -> bool:
    """Whether the same call may well succeed a moment later."""
    if isinstance(error, EngineRefused):
        return error.status == 429 and error.code not in SPENT_CODES and error.type not in SPENT_CODES
    if isinstance(error, UpstreamFailed):
        return error.upstream in PASSING_STATUSES
    return isinstance(error, Unavailable)


def pause_before(attempt: int, error: PorticoError, chance: float) -> float | None:
    """Seconds to wait before attempt number ``attempt`` (the first repetition is 1); ``None``: do not.

    What the server asked for in ``Retry-After`` counts; otherwise twice as long each time, spread by
    ``chance`` in [0, 1) so that many callers do not come back together.
    """
    if not is_passing(error):
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= MAX_PAUSE_S else None
    return min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1)) * (0.5 + chance / 2)


class RetryingClient:
    """A `EngineClient` that asks another one up to ``retries`` further times before the first byte."""

    def __init__(self, inner: EngineClient, retries: int) -> None:
        self._inner = inner
        self._retries = retries

    async def relay(self, request: Relay, deadline: float | None) -> RelayResponse:
        """See `portico_server.models.protocol.EngineClient`."""
        attempt = 0
        while True:
            try:
                return await self._inner.relay(request, deadline)
            except PorticoError as error:
                attempt += 1
                pause = pause_before(attempt, error, random.random())  # noqa: S311  # spreads load
                now = asyncio.get_running_loop().time()
                if pause is None or attempt > self._retries or (deadline and now + pause >= deadline):
                    raise
            await asyncio.sleep(pause)  # nothing announces that a server has recovered
