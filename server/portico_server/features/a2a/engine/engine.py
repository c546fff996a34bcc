"""Remote agents with the Agent2Agent protocol, as chat models."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from portico_server.core.errors import InvalidRequest, nearest
from portico_server.features.a2a.engine.card import AgentSource, RemoteAgent
from portico_server.models.protocol import LaunchContext, ModelDescription, RunningEngine
from portico_server.models.sources import parse_source
from portico_server.models.spec import ModelSpec

IDLE_TIMEOUT_S: Final = 120.0

PARAMETERS: Final[Mapping[str, str]] = {
    "base_url": "URL for messages, instead of the URL in the card",
    "headers": "additional HTTP headers, an object whose values are texts",
    "stall_timeout": f"seconds of silence after which a connection counts as broken, default {IDLE_TIMEOUT_S:g}",
    "fallback": "names of models to call if this one fails before its first byte",
}
"""The ``parameters`` that an agent can have, with their descriptions."""


def find_source(spec: ModelSpec) -> AgentSource:
    """Derive the source and the options of an agent from the spec. Raise `InvalidRequest` that names the invalid
    parameter.
    """
    parameters = spec.parameters
    unknown = sorted(parameters.keys() - PARAMETERS.keys())
    if unknown:
        raise InvalidRequest(
            f"An agent has no parameter '{unknown[0]}'.{nearest(unknown[0], PARAMETERS)} Valid parameters "
            f"are {', '.join(PARAMETERS)}.",
            param=f"parameters.{unknown[0]}",
        )
    if spec.task not in ("auto", "chat"):
        raise InvalidRequest(
            f"'{spec.name}' is a remote agent, which supports only the task chat.", param="task"
        )
    if not parse_source(spec.source).scheme.startswith("a2a+"):
        raise InvalidRequest(
            f"The engine 'a2a' requires a2a+https://HOST[/PATH], not '{spec.source}'.", param="source"
        )
    headers = parameters.get("headers") or {}
    if not isinstance(headers, dict) or not all(
        isinstance(value, str) and value.isprintable() for value in headers.values()
    ):
        raise InvalidRequest(
            f"The headers of '{spec.name}' must be an object whose values are texts.",
            param="parameters.headers",
        )
    url = parameters.get("base_url")
    if url is not None and (not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https")):
        raise InvalidRequest(
            f"The URL of '{spec.name}' must be an http(s) URL, not '{url}'.", param="parameters.base_url"
        )
    idle = parameters.get("stall_timeout")
    if idle is not None and (not isinstance(idle, int | float) or isinstance(idle, bool) or idle <= 0):
        raise InvalidRequest(
            f"The parameter 'stall_timeout' of '{spec.name}' must be a number above 0.",
            param="parameters.stall_timeout",
        )
    location = parse_source(spec.source).location
    return AgentSource(spec.name, location, url or "", spec.api_key, headers, float(idle or IDLE_TIMEOUT_S))


class A2a:
    """The engine for agents with the source ``a2a+https://HOST[/PATH]``, the URL of an agent or of its card.

    For the parameters, see `PARAMETERS`.
    """

    name = "a2a"
    fetches = False

    def describe(self, spec: ModelSpec, path: Path | None) -> ModelDescription:
        find_source(spec)
        return ModelDescription("chat", answers="write", long_prompts=True, hosted=True, files=True)

    async def start(self, spec: ModelSpec, path: Path | None, site: LaunchContext) -> RunningEngine:
        # Imported here because it imports aiohttp, which must not be loaded before a model is used.
        from portico_server.features.a2a.engine.client import AgentClient
        from portico_server.features.a2a.engine.link import AgentLink

        link = AgentLink(site.transport, find_source(spec))
        agent = await link.read_card(asyncio.get_running_loop().time() + site.load_timeout)

        def on_change(remote_agent: RemoteAgent) -> None:
            if site.described is not None:
                site.described(describe_agent(remote_agent))

        client = AgentClient(link, spec.name, agent, on_change)
        return RunningEngine(client, describe_agent(agent), remembers=True)


def describe_agent(agent: RemoteAgent) -> ModelDescription:
    """Return the description of an agent as a model, derived from its card."""
    labels = {
        "agent": {
            "name": agent.name,
            "version": agent.version,
            "streaming": agent.streaming,
            "input_modes": list(agent.inputs),
            "output_modes": list(agent.outputs),
            "skills": [dict(skill) for skill in agent.skills],
        }
    }
    return ModelDescription(
        "chat",
        vision=agent.sees,
        answers="write",
        long_prompts=True,
        hosted=True,
        files=agent.reads_files or not agent.inputs,
        description=agent.description or agent.name,
        labels=labels,
    )
