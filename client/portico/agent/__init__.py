"""Agents composed in Python and run by the daemon, which stores their sessions.

An `Agent` is a model with instructions, tools, memory and an output format. To call it, use ``agent("hi")`` to wait,
``await agent.acall("hi")`` for asyncio, or ``agent.stream("hi")`` for the events. Your own class whose attributes are
agents and that has a ``forward`` is also an agent: its ``forward`` runs in your process, its agents in the daemon.
"""

from __future__ import annotations

from portico.agent import hooks, teams
from portico.agent.agent import Agent
from portico.agent.executor import Executor
from portico.agent.message import Message
from portico.agent.output import Choice, Json, Regex, ToolParser
from portico.agent.scope import Heard
from portico.agent.spec import Handoff

__all__ = [
    "Agent",
    "Choice",
    "Executor",
    "Handoff",
    "Heard",
    "Json",
    "Message",
    "Regex",
    "ToolParser",
    "hooks",
    "teams",
]
