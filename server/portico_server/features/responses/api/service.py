"""Builds the service of the feature `responses`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from importlib import import_module

from portico.wire import Usage
from portico_server.api.services import BuildServices
from portico_server.core import filter as filters
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.features.files.uploaded_files import UploadedFiles
from portico_server.features.responses.conversations import ConversationStore
from portico_server.features.responses.responder import Responder
from portico_server.features.responses.tasks import AgentTasks
from portico_server.features.responses.tool_context import ResponseServices, ServerTool


@dataclass(frozen=True, slots=True)
class ResponseService:
    """The parts of the feature. ``tasks`` are responses of agents, for A2A."""

    responder: Responder
    conversations: ConversationStore
    tasks: AgentTasks


def build(services: BuildServices) -> ResponseService:
    """Return the service of the feature."""

    async def endpoint_tools(path: str, caller: Principal) -> Sequence[ServerTool]:
        direct = await pools.LOADING.run(import_module, "portico_server.features.mcp.direct")
        tools: Sequence[ServerTool] = await direct.endpoint_tools(services, path, caller)
        return tools

    @asynccontextmanager
    async def turn(name: str, context: Context) -> AsyncIterator[Callable[[Usage], None]]:
        flows = await services.features.load("flows")
        async with flows.turn(name, context) as record_end:
            yield record_end

    around = ResponseServices(
        services.registry,
        UploadedFiles(services.files, services.artifacts),
        filters.parse,
        services.mcp.addresses,
        endpoint_tools,
        services.tool_search,
        services.skills,
        services.containers,
        services.store_apps,
    )
    responder = Responder(
        services.database,
        services.runner,
        services.scheduler,
        around,
        services.prompts,
        turn,
        services.storage,
    )
    return ResponseService(
        responder,
        ConversationStore(services.database, services.storage),
        AgentTasks(services.database, services.registry, responder, services.questions),
    )
