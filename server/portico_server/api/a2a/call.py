"""A call of one agent."""

from __future__ import annotations

from portico_server.api.services import ApiServices
from portico_server.apps.responses.tasks import TaskView, app_of
from portico_server.core.dataclass import dataclass
from portico_server.core.principal import Principal
from portico_server.core.servable import Card


@dataclass(frozen=True, slots=True)
class AgentCall:
    """A call of one agent: ``name`` is what it was called by, ``base`` the address of the daemon."""

    services: ApiServices
    caller: Principal
    name: str
    card: Card
    base: str

    @property
    def app(self) -> str:
        """What the tasks of the agent are kept under."""
        return app_of(self.card)

    async def task(self, task_id: str) -> TaskView:
        """One of its tasks. Raises `NotFound`."""
        return await self.services.tasks.get(task_id, self.app, self.caller)
