"""The engine `remote`: a model behind an HTTP API, with its address, limits per minute and retries."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from portico_server.core.errors import (
    EngineFailed,
    InvalidRequest,
    PorticoError,
)
from portico_server.core.hosted_tuning import HostedTuner
from portico_server.models.engines.openai_client.quirks import Quirks
from portico_server.models.engines.remote.pacing import PacedClient
from portico_server.models.engines.remote.retries import RetryingClient
from portico_server.models.engines.remote.target import (
    WORK,
    RemoteTarget,
    find_target,
    number_of,
    provider_of,
)
from portico_server.models.known_models import profile_of
from portico_server.models.protocol import EngineClient, LaunchContext, ModelDescription, RunningEngine
from portico_server.models.sources import parse_source
from portico_server.models.spec import ModelSpec, Task


class Remote:
    """An engine for ``http(s)://HOST/v1#MODEL`` or ``remote://PROVIDER/MODEL``.

    Parameters: see `portico_server.models.engines.remote.target`.
    """

    name = "remote"
    fetches = False

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        target = find_target(spec)
        model_profile = profile_of(spec.source)
        task: Task = (
            cast("Task", spec.task)
            if spec.task != "auto"
            else model_profile.task
            if model_profile
            else "chat"
        )
        if task != "chat" and target.wire == "anthropic":
            raise InvalidRequest(f"This provider does not support {WORK[task]}.", param="task")
        if task == "embedding" and target.fallback:
            raise InvalidRequest(
                f"'{spec.name}' creates embeddings, and another model's vectors cannot replace them: leave "
                "out 'fallback'.",
                param="parameters.fallback",
            )
        context = spec.parameters.get(
            "context_length", model_profile.context_length if model_profile else None
        )
        dimensions = spec.parameters.get("dimensions", model_profile.dimensions if model_profile else None)
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
        provider, model = provider_of(spec)
        form = spec.parameters.get("tuning") or provider.tuning
        if not form:
            return None
        from portico_server.models.engines.remote.tuning import TUNERS

        target = find_target(spec)
        source = parse_source(spec.source)
        name = source.location if source.scheme == "remote" else urlsplit(source.location).netloc
        hosted_tuner = TUNERS[form](target.endpoint, model, name, _missing_key(spec, target))
        if spec.parameters.get("training_price") is not None:
            hosted_tuner.price = number_of(spec, "training_price", 0.0)
        return hosted_tuner

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        target = find_target(spec)
        if missing := _missing_key(spec, target):
            raise InvalidRequest(missing, code="missing_provider_key", param="api_key")
        return RunningEngine(_client(spec.name, target, site), self.describe(spec, path))


def _missing_key(spec: ModelSpec, target: RemoteTarget) -> str:
    """Return what to do about a missing key, or an empty string if the key exists."""
    if target.keyed:
        return ""
    return (
        f"'{spec.name}' needs a key: set the model's 'api_key', or set {target.variable} in the daemon's "
        "environment."
    )


def _client(name: str, target: RemoteTarget, site: LaunchContext) -> EngineClient:
    # Imported in the function, so that importing this module does not load aiohttp.
    from portico_server.http.client import failure_reason
    from portico_server.models.engines.openai_client.passthrough import Passthrough
    from portico_server.models.engines.openai_client.quirks_client import QuirksClient
    from portico_server.models.engines.remote.anthropic_client import AnthropicClient
    from portico_server.models.transport import Upstream

    async def explain(error: BaseException) -> PorticoError:
        return EngineFailed(
            f"The server of '{name}' cannot be reached or closed the connection: {failure_reason(error)}. "
            "Check the address in the model's source and that the server runs.",
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
