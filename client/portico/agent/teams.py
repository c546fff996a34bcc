"""Agents that talk to each other. Each team is a flow, so it is durable, traced and deployed like any other flow.

A member is an `Agent`, the name of a deployment that answers chat messages, or a `Human`, who is asked for input while
the run waits (`portico approvals`). `Team.deploy` deploys the team under a name, and its agents under names that begin
with the team's name. The function that creates a team determines who speaks next and which messages each member sees.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from portico import _teams as shapes
from portico import flow
from portico._keywords import exact, exact_methods
from portico._step import Step
from portico._teams import Speaker
from portico.agent.agent import Agent
from portico.client import Client
from portico.errors import InvalidRequest
from portico.flow import Durability, Flow
from portico.schemas.apps import AppVersion


@exact_methods
@dataclass(frozen=True, slots=True)
class Human:
    """A person who is a member of a team. ``limit``: seconds that the team waits for an answer."""

    name: str
    limit: float = 86_400.0


Member: TypeAlias = "Agent | Human | str"

Who: TypeAlias = Callable[[Member], Speaker]
"""A function that returns the speaker for a member, with the name under which the member is deployed."""


@exact_methods
@dataclass(frozen=True, slots=True)
class Team:
    """Agents that work together. ``step`` builds their flow, given a function that returns the speaker for each
    member.
    """

    members: Sequence[Member]
    step: Callable[[Who], Step]

    def flow(self, name: str, *, durability: Durability = "normal") -> Flow:
        """Return the flow of a team named ``name``. The team's agents must be deployed under the names that `agents`
        returns.
        """

        def speaker_of(member: Member) -> Speaker:
            match member:
                case str():
                    return Speaker(member, member)
                case Human():
                    return Speaker(member.name, limit=member.limit)
            return Speaker(member.name, f"{name}-{member.name}")

        return flow.flow(self.step(speaker_of), name=name, durability=durability)

    def agents(self, name: str) -> dict[str, Agent]:
        """Return the agents of a team named ``name``, keyed by the names under which they must be deployed."""
        return {f"{name}-{member.name}": member for member in self.members if isinstance(member, Agent)}

    def deploy(
        self, client: Client, name: str, *, durability: Durability = "normal", note: str = ""
    ) -> AppVersion:
        """Deploy the team under a name, and each of its agents under a name that begins with the team's name."""
        for agent_name, agent in self.agents(name).items():
            agent.deploy(client, agent_name, note=note)
        return client.apps.deploy(name, self.flow(name, durability=durability), note=note)


@exact
def sequence(*members: Member) -> Team:
    """Ask one member after another; each receives the previous answer, and the last answer is the result."""
    _several(members, 1)
    return Team(members, lambda who: shapes.sequence([who(member) for member in members]))


@exact
def round_robin(*members: Member, rounds: int = 3, final: str = "") -> Team:
    """Create a team whose members speak in order for ``rounds`` rounds, or until ``final`` occurs in an answer. The
    last answer is the result.
    """
    _several(members, 1)
    return Team(members, lambda who: shapes.round_robin([who(member) for member in members], rounds, final))


@exact
def moderated(moderator: Agent | str, *members: Member, turns: int = 12, final: str = "") -> Team:
    """Create a team whose ``moderator`` selects the speaker of each turn, until it says DONE. The result is the last
    answer.
    """
    _several(members, 1)
    return Team(
        (moderator, *members),
        lambda who: shapes.moderated(who(moderator), [who(member) for member in members], turns, final),
    )


@exact
def bidding(*members: Agent | str, turns: int = 12, final: str = "") -> Team:
    """Create a team without a moderator. Before each turn, all members bid how important it is that they speak, and
    the highest bidder speaks.

    The team stops when no bid is above 0. The result is the last answer.
    """
    _several(members, 1)
    return Team(members, lambda who: shapes.bidding([who(member) for member in members], turns, final))


@exact
def debate(*members: Member, judge: Agent | str, rounds: int = 2) -> Team:
    """Create a team whose members argue in parallel for ``rounds`` rounds. Each sees the others' earlier arguments.
    The judge's answer is the result.
    """
    _several(members, 2)
    return Team(
        (judge, *members),
        lambda who: shapes.debate([who(member) for member in members], who(judge), rounds),
    )


@exact
def hierarchy(manager: Agent | str, *members: Member, concurrency: int = 8) -> Team:
    """Create a team whose manager divides the task among the members. They work in parallel, and the manager
    concludes.
    """
    _several(members, 1)
    return Team(
        (manager, *members),
        lambda who: shapes.hierarchy(who(manager), [who(member) for member in members], concurrency),
    )


def _name(member: Member) -> str:
    return member if isinstance(member, str) else member.name


def _several(members: Sequence[Member], minimum: int) -> None:
    names = [_name(member) for member in members]
    if len(names) < minimum or len(set(names)) < len(names):
        raise InvalidRequest(
            f"A team needs at least {minimum} members with different names; the given members are "
            f"{', '.join(names) or 'none'}.",
            param="members",
        )
    unfit = [member.name for member in members if isinstance(member, Agent) and member._composed]
    if unfit:
        raise InvalidRequest(
            f"'{unfit[0]}' has a forward, which runs in this process: serve it, and name it in the team.",
            param="members",
        )
