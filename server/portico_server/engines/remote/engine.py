"""A model behind somebody's OpenAI-compatible HTTP API."""

from __future__ import annotations

import os
from pathlib import Path

from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, nearest
from portico_server.engines.endpoint import Endpoint
from portico_server.engines.profiles import profile
from portico_server.engines.protocol import Description, Running, Site
from portico_server.engines.remote.providers import PROVIDERS
from portico_server.engines.sources import parse
from portico_server.engines.spec import ModelSpec


class Remote:
    """``http(s)://HOST/v1#MODEL`` or ``remote://PROVIDER/MODEL``.

    The parameter ``headers`` adds HTTP headers.
    """

    name = "remote"
    fetches = False

    def describe(self, spec: ModelSpec, path: Path | None) -> Description:
        _endpoint(spec)
        known = profile(spec.source)
        task = "embedding" if spec.task == "embedding" or (spec.task == "auto" and _embeds(spec)) else "chat"
        context = spec.parameters.get("context_length", known.context_length if known else None)
        dimensions = spec.parameters.get("dimensions", known.dimensions if known else None)
        if task == "chat":
            return Description("chat", context)
        return Description("embedding", context, dimensions)

    async def start(self, spec: ModelSpec, path: Path | None, site: Site) -> Running:
        # aiohttp is imported by now; this module is imported before it.
        from portico_server.engines.passthrough import Passthrough

        endpoint = _endpoint(spec)
        if not endpoint.key and (variable := _variable(spec)):
            raise InvalidRequest(
                f"'{spec.name}' needs a key: give the model an 'api_key', or set {variable} where the "
                f"daemon starts.",
                code="missing_provider_key",
                param="api_key",
            )

        async def explain(error: BaseException) -> PorticoError:
            reason = str(error) or type(error).__name__
            return EngineFailed(
                f"The server of '{spec.name}' at {endpoint.url} cannot be reached or broke off: {reason}. "
                f"Check the "
                "address and that it runs.",
                code="upstream_unreachable",
            )

        return Running(Passthrough(site.transport, endpoint, spec.name, explain), self.describe(spec, path))


def _embeds(spec: ModelSpec) -> bool:
    known = profile(spec.source)
    return known is not None and known.task == "embedding"


def _variable(spec: ModelSpec) -> str:
    """The environment variable for the key of the spec's provider, if it needs one."""
    source = parse(spec.source)
    return PROVIDERS[source.location].key if source.scheme == "remote" else ""


def _endpoint(spec: ModelSpec) -> Endpoint:
    source = parse(spec.source)
    headers = spec.parameters.get("headers") or {}
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidRequest(
            f"The headers of '{spec.name}' must be an object of texts.", param="parameters.headers"
        )
    if source.scheme in ("http", "https"):
        return Endpoint(source.location, source.model, spec.api_key, headers)
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
    key = spec.api_key or os.environ.get(provider.key, "") if provider.key else spec.api_key
    return Endpoint(provider.url, source.model, key, headers)
