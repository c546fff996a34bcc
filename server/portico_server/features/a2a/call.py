"""A call to one agent."""

from __future__ import annotations

from portico_server.api.services import ApiServices
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.core.servable import Card
from portico_server.features.responses.tasks import AgentTasks, TaskView, app_of


@dataclass(frozen=True, slots=True)
class AgentCall:
    """A call to one agent. ``name`` is the name that the client used for the agent; ``base`` is the daemon's
    address.
    """

    services: ApiServices
    tasks: AgentTasks
    caller: Principal
    name: str
    card: Card
    base: str

    @property
    def app(self) -> str:
        """Return the name under which the agent's tasks are stored."""
        return app_of(self.card)

    async def task(self, task_id: str) -> TaskView:
        """Return one of the agent's tasks. Raises `NotFound`."""
        return await self.tasks.get(task_id, self.app, self.caller)
