"""The strategies by which an agent produces its answer, keyed by name in the specification."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from portico_server.features.agents.calling import use_tools
from portico_server.features.agents.message import AgentMessage
from portico_server.features.agents.planning import plan_and_solve, rewoo
from portico_server.features.agents.spec import Strategy
from portico_server.features.agents.text_tools import react, text_tools
from portico_server.features.agents.turn import AgentTurn

STRATEGIES: Mapping[Strategy, Callable[[AgentTurn], Awaitable[AgentMessage]]] = {
    "tools": use_tools,
    "text_tools": text_tools,
    "react": react,
    "plan_and_solve": plan_and_solve,
    "rewoo": rewoo,
}
