"""A model behind somebody's HTTP API: any OpenAI-compatible server, and the presets with their quirks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError
from portico_server.engines.profiles import profile
from portico_server.engines.protocol import Description, Running, Site, Speaker
from portico_server.engines.remote.place import Place, find
from portico_server.engines.remote.quirks import Quirks
from portico_server.engines.spec import ModelSpec, Task

_WORK: Mapping[Task, str] = {
    "embedding": "embeddings",
    "rerank": "reranking",
    "speech": "speech",
    "transcription": "transcription",
    "image": "pictures",
}


class Remote:
    """``http(s)://HOST/v1#MODEL`` or ``remote://PROVIDER/MODEL``.

    Parameters: see `portico_server.engines.remote.place`.
    """

    name = "remote"
    fetches = False

    def describe(self, spec: ModelSpec, path: Path | None) -> Description:
        place = find(spec)
        known = profile(spec.source)
        task: Task = cast("Task", spec.task) if spec.task != "auto" else known.task if known else "chat"
        if task != "chat" and place.wire == "anthropic":
            raise InvalidRequest(f"This provider has no {_WORK[task]}.", param="task")
        if task == "embedding" and place.fallback:
            raise InvalidRequest(
                f"'{spec.name}' makes embeddings, and another model's vectors cannot stand in for them: "
                "leave out 'fallback'.",
                param="parameters.fallback",
            )
        context = spec.parameters.get("context_length", known.context_length if known else None)
        dimensions = spec.parameters.get("dimensions", known.dimensions if known else None)
        if task == "chat":
            return Description(
                "chat",
                context,
                messages=place.wire == "anthropic",
                answers="write",
                long_prompts=True,
            )
        if task == "embedding":
            return Description("embedding", context, dimensions)
        pictures = place.quirks.pictures
        return Description(task, context, edits=task == "image" and (pictures.edits or bool(pictures.inside)))

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        place = find(spec)
        if not place.keyed:
            raise InvalidRequest(
                f"'{spec.name}' needs a key: give the model an 'api_key', or set {place.variable} where the "
                f"daemon starts.",
                code="missing_provider_key",
                param="api_key",
            )
        return Running(_speaker(spec.name, place, site), self.describe(spec, path))


def _speaker(name: str, place: Place, site: Site) -> Speaker:
    # aiohttp is imported by now; this module is imported before it.
    from portico_server.engines.passthrough import Passthrough
    from portico_server.engines.remote.anthropic.speaker import Messages
    from portico_server.engines.remote.fitted import Fitted
    from portico_server.engines.remote.pace import Paced
    from portico_server.engines.remote.retry import Retrying
    from portico_server.engines.upstream import Upstream

    async def explain(error: BaseException) -> PorticoError:
        reason = str(error) or type(error).__name__
        return EngineFailed(
            f"The server of '{name}' at {place.endpoint.url} cannot be reached or broke off: {reason}. "
            "Check the address and that it runs.",
            code="upstream_unreachable",
        )

    upstream = Upstream(site.transport, place.endpoint, name, explain, idle=place.idle)
    speaker: Speaker
    if place.wire == "anthropic":
        speaker = Messages(upstream, max_tokens=place.max_tokens)
    else:
        speaker = Passthrough(upstream, ask_usage=place.quirks.stream_usage)
    if place.paced:
        speaker = Paced(speaker, name, requests=place.requests, tokens=place.tokens, patience=place.patience)
    if place.retries:
        speaker = Retrying(speaker, place.retries)
    return speaker if place.quirks == Quirks() else Fitted(speaker, place.quirks, name)
