"""Agents: composed in Python, run by the daemon, with sessions that the daemon keeps.

An `Agent` is a model with instructions, tools, memory and an output format. Call it: ``agent("hi")`` waits,
``await agent.acall("hi")`` is for asyncio, ``agent.stream("hi")`` gives the events. A class of your own whose
attributes are agents and that has a ``forward`` is an agent too: its ``forward`` runs here, its agents in the daemon.
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
