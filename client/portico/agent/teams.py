"""Agents that talk to each other: each team is a flow, so it is durable, traced and deployed like any other flow.

A member is an `Agent`, the name of a deployment that answers chat messages, or a `Human`, who is asked for input while
the run waits (`portico approvals`). All members see the task and all earlier messages. `Team.deploy` deploys the team
under a name, and its agents under names that begin with it.
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
    """A person who is one of the speakers. ``limit``: seconds that the team waits for an answer."""

    name: str
    limit: float = 86_400.0


Member: TypeAlias = "Agent | Human | str"

Who: TypeAlias = Callable[[Member], Speaker]
"""Returns the name under which a member answers."""


@exact_methods
@dataclass(frozen=True, slots=True)
class Team:
    """Agents that work together; ``step`` builds their flow from the names under which they are deployed."""

    members: Sequence[Member]
    step: Callable[[Who], Step]

    def flow(self, name: str, *, durability: Durability = "normal") -> Flow:
        """Return the flow of a team named ``name``. Its agents must be deployed under the names of `agents`."""

        def speaker_of(member: Member) -> Speaker:
            match member:
                case str():
                    return Speaker(member, member)
                case Human():
                    return Speaker(member.name, limit=member.limit)
            return Speaker(member.name, f"{name}-{member.name}")

        return flow.flow(self.step(speaker_of), name=name, durability=durability)

    def agents(self, name: str) -> dict[str, Agent]:
        """Return the agents of a team named ``name``, by the names under which they are deployed."""
        return {f"{name}-{member.name}": member for member in self.members if isinstance(member, Agent)}

    def deploy(
        self, client: Client, name: str, *, durability: Durability = "normal", note: str = ""
    ) -> AppVersion:
        """Deploy the team under a name, and each of its agents under a name that begins with it."""
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
    """Members speak in order for ``rounds`` rounds, or until ``final`` occurs in an answer, which is then the
    result.
    """
    _several(members, 1)
    return Team(members, lambda who: shapes.round_robin([who(member) for member in members], rounds, final))


@exact
def moderated(moderator: Agent | str, *members: Member, turns: int = 12, final: str = "") -> Team:
    """The moderator selects each speaker, until it says DONE. The result is the last answer."""
    _several(members, 1)
    return Team(
        (moderator, *members),
        lambda who: shapes.moderated(who(moderator), [who(member) for member in members], turns, final),
    )


@exact
def bidding(*members: Agent | str, turns: int = 12, final: str = "") -> Team:
    """No moderator: before each turn, all members bid how important their turn is, and the highest bidder speaks.

    Ends when no bid is above 0. The result is the last answer.
    """
    _several(members, 1)
    return Team(members, lambda who: shapes.bidding([who(member) for member in members], turns, final))


@exact
def debate(*members: Member, judge: Agent | str, rounds: int = 2) -> Team:
    """All members argue in parallel for ``rounds`` rounds, each seeing the others' arguments; the judge's answer is
    the result.
    """
    _several(members, 2)
    return Team(
        (judge, *members),
        lambda who: shapes.debate([who(member) for member in members], who(judge), rounds),
    )


@exact
def hierarchy(manager: Agent | str, *members: Member, concurrency: int = 8) -> Team:
    """The manager assigns each member a part of the task, the parts run in parallel, and the manager concludes."""
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
