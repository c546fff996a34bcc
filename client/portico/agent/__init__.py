"""Agents that you compose in Python. The daemon runs them and stores their sessions.

An `Agent` is a model with instructions, tools, memory and an output format. Call ``agent("hi")`` to wait for the
answer, ``await agent.acall("hi")`` in asyncio code, or ``agent.stream("hi")`` for the events. A subclass with agents
as attributes and a ``forward`` method is also an agent: its ``forward`` runs in your process, and the agents that it
calls run in the daemon.
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
