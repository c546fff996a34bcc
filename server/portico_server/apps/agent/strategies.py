"""The strategies by which an agent produces its answer, keyed by name in the specification."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from portico_server.apps.agent.calling import use_tools
from portico_server.apps.agent.message import AgentMessage
from portico_server.apps.agent.planning import plan_and_solve, rewoo
from portico_server.apps.agent.spec import Strategy
from portico_server.apps.agent.text_tools import react, text_tools
from portico_server.apps.agent.turn import AgentTurn

STRATEGIES: Mapping[Strategy, Callable[[AgentTurn], Awaitable[AgentMessage]]] = {
    "tools": use_tools,
    "text_tools": text_tools,
    "react": react,
    "plan_and_solve": plan_and_solve,
    "rewoo": rewoo,
}
