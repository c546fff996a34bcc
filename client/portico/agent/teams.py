"""Agents that talk with each other: each team is a flow, so it is durable, traced and deployed like any other.

A member is an `Agent`, the name of something deployed that answers chat messages, or a `Human`, who is asked to say
something while the run waits (`portico approvals`). Everybody sees the task and all that was said. `Team.deploy`
gives a team a name, and its agents names that begin with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from portico import flow
from portico._step import Step
from portico.agent.agent import Agent
from portico.client import Client
from portico.errors import InvalidRequest
from portico.flow import Durability, Flow, bind, index, input, output, pipeline, state, template
from portico.values import AppVersion

ASK: Final = "The task:\n{task}\n\nSaid so far:\n{told}\n\nYou are {who}. Say what you have to say next."
CHOOSE: Final = (
    "The task:\n{task}\n\nSaid so far:\n{told}\n\nWho speaks next? Answer with one name of: {names}. If the task is "
    "done, answer DONE."
)
BID: Final = (
    "The task:\n{task}\n\nSaid so far:\n{told}\n\nYou are {who}. How much does it matter that you speak now? "
    "Answer with a number from 0 (not at all) to 10."
)
ARGUE: Final = (
    "The question:\n{task}\n\nSaid so far:\n{told}\n\nYou are {who}. Argue for what you hold to be right."
)
JUDGE: Final = "The question:\n{task}\n\nThe debate:\n{told}\n\nJudge, and answer the question."
PLAN: Final = (
    "The task:\n{task}\n\nYour team: {names}. Write one line for each part of the task, as NAME: what to do. "
    "Nothing else."
)
CONCLUDE: Final = "The task:\n{task}\n\nWhat your team has done:\n{told}\n\nComplete the task from it."


@dataclass(frozen=True, slots=True)
class Human:
    """A person who is one of the speakers. ``limit``: seconds that the team waits for them."""

    name: str
    limit: float = 86_400.0


Member: TypeAlias = "Agent | Human | str"


@dataclass(frozen=True, slots=True)
class Team:
    """Agents that work together; ``step`` makes their flow from the names under which they are deployed."""

    members: Sequence[Member]
    step: Callable[[Mapping[str, str]], Step]

    def flow(self, name: str, *, durability: Durability = "normal") -> Flow:
        """The flow of a team called ``name``. Its agents must be deployed under the names of `agents`."""
        names = {_name(member): member if isinstance(member, str) else "" for member in self.members}
        names.update({_name(agent): deployed for deployed, agent in self.agents(name).items()})
        return flow.flow(self.step(names), name=name, durability=durability)

    def agents(self, name: str) -> dict[str, Agent]:
        """The agents of a team called ``name``, by the names that they are deployed under."""
        return {f"{name}-{member.name}": member for member in self.members if isinstance(member, Agent)}

    def deploy(
        self, client: Client, name: str, *, durability: Durability = "normal", note: str = ""
    ) -> AppVersion:
        """Give the team a name, and each of its agents one that begins with it."""
        for deployed, agent in self.agents(name).items():
            agent.deploy(client, deployed, note=note)
        return client.apps.deploy(name, self.flow(name, durability=durability), note=note)


def sequence(*members: Member) -> Team:
    """One after the other, each with what the one before has said; the last one's word is the answer."""
    _several(members, 1)

    def step(names: Mapping[str, str]) -> Step:
        return pipeline(
            *(
                _says(member, names, flow.value).named(f"turn{number}")
                for number, member in enumerate(members, 1)
            )
        )

    return Team(members, step)


def round_robin(*members: Member, rounds: int = 3, final: str = "") -> Team:
    """In turn, ``rounds`` times, or until ``final`` is in what somebody says, which is then the answer."""
    _several(members, 1)

    def step(names: Mapping[str, str]) -> Step:
        choose = bind(_in_turn, index, list(names))
        return _talk(members, names, choose, rounds * len(members), final)

    return Team(members, step)


def moderated(moderator: Agent | str, *members: Member, turns: int = 12, final: str = "") -> Team:
    """The moderator says who speaks, until it says DONE. The answer is what was said last."""
    _several(members, 1)

    def step(names: Mapping[str, str]) -> Step:
        speakers = [_name(member) for member in members]
        asked = template(CHOOSE, task=input, told=output("told"), names=", ".join(speakers))
        choose = pipeline(
            told=bind(_told, state.said),
            asked=flow.agent(names[_name(moderator)], message=asked),
            picked=bind(_picked, output("asked"), speakers),
        )
        return _talk(members, names, choose, turns, final)

    return Team((moderator, *members), step)


def bidding(*members: Agent | str, turns: int = 12, final: str = "") -> Team:
    """Nobody presides: before each turn all say how much it matters that they speak, and the highest bid does.

    Ends when nobody bids more than 0. The answer is what was said last.
    """
    _several(members, 1)

    def step(names: Mapping[str, str]) -> Step:
        bids = [
            flow.agent(
                names[_name(member)],
                message=template(BID, task=input, told=output("told"), who=_name(member)),
            ).named(_step_name(member))
            for member in members
        ]
        choose = pipeline(
            told=bind(_told, state.said),
            bids=flow.parallel(*bids),
            picked=bind(_highest, output("bids"), [_name(member) for member in members]),
        )
        return _talk(members, names, choose, turns, final)

    return Team(members, step)


def debate(*members: Member, judge: Agent | str, rounds: int = 2) -> Team:
    """All argue at once, ``rounds`` times, each seeing what the others have said; the judge's word is the answer."""
    _several(members, 2)

    def step(names: Mapping[str, str]) -> Step:
        speakers = [
            _says(member, names, template(ARGUE, task=input, told=output("told"), who=_name(member))).named(
                _step_name(member)
            )
            for member in members
        ]
        one = pipeline(
            told=bind(_told, state.said),
            all=flow.parallel(*speakers),
            noted=bind(_noted_all, state.said, output("all"), [_name(m) for m in members]).save("said"),
        )
        return pipeline(
            rounds=flow.loop(one, limit=rounds, state={"said": []}),
            told=bind(_told, output("rounds")),
            verdict=flow.agent(names[_name(judge)], message=template(JUDGE, task=input, told=output("told"))),
        )

    return Team((judge, *members), step)


def hierarchy(manager: Agent | str, *members: Member, concurrency: int = 8) -> Team:
    """The manager gives each member a part of the task, the parts are done at once, the manager concludes."""
    _several(members, 1)

    def step(names: Mapping[str, str]) -> Step:
        known = [_name(member) for member in members]
        works = {
            _name(member): _says(member, names, flow.item["task"]).named(_step_name(member))
            for member in members
        }
        return pipeline(
            plan=flow.agent(
                names[_name(manager)], message=template(PLAN, task=input, names=", ".join(known))
            ),
            parts=bind(_parts, output("plan"), known),
            done=flow.warp(flow.switch(works, on=flow.item["who"]), concurrency=concurrency),
            told=bind(_reported, output("parts"), output("done")),
            answer=flow.agent(
                names[_name(manager)], message=template(CONCLUDE, task=input, told=output("told"))
            ),
        )

    return Team((manager, *members), step)


# --- what all of them do -------------------------------------------------------------------------------------------


def _talk(members: Sequence[Member], names: Mapping[str, str], choose: Step, turns: int, final: str) -> Step:
    """Turn after turn: ``choose`` says who speaks; nobody, and the talk is over."""
    speak = {
        _name(member): pipeline(
            told=bind(_told, state.said),
            said=_says(member, names, template(ASK, task=input, told=output("told"), who=_name(member))),
            noted=bind(_noted, state.said, _name(member), output("said")).save("said"),
        )
        for member in members
    }
    over = bind(_noted, state.said, "", "")
    one = pipeline(who=choose, turn=flow.switch(speak, on=output("who"), default=over))
    ends = (lambda said: not said[-1][0] or final in said[-1][1]) if final else (lambda said: not said[-1][0])
    return pipeline(
        talk=flow.loop(one, limit=turns, until=ends, state={"said": []}), answer=bind(_last, output("talk"))
    )


def _says(member: Member, names: Mapping[str, str], message: Any) -> Step:
    if isinstance(member, Human):
        asked = message if message is not flow.value else template("{said}", said=message)
        return flow.approve(asked, returns=str, limit=member.limit)
    return flow.agent(names[_name(member)], message=message)


def _name(member: Member) -> str:
    return member if isinstance(member, str) else member.name


def _step_name(member: Member) -> str:
    return re.sub(r"\W", "_", _name(member))


def _several(members: Sequence[Member], least: int) -> None:
    names = [_name(member) for member in members]
    if len(names) < least or len(set(names)) < len(names):
        raise InvalidRequest(
            f"A team has at least {least} members, each with a name of its own; these are "
            f"{', '.join(names) or 'none'}.",
            param="members",
        )
    unfit = [member.name for member in members if isinstance(member, Agent) and member._composed]
    if unfit:
        raise InvalidRequest(
            f"'{unfit[0]}' has a forward, which runs here: serve it, and name it in the team.",
            param="members",
        )


# --- functions that travel: each needs nothing from around it -------------------------------------------------------


def _told(said: list[list[str]]) -> str:
    return "\n\n".join(f"{who}: {text}" for who, text in said) or "Nothing yet."


def _noted(said: list[list[str]], who: str, text: str) -> list[list[str]]:
    return [*said, [who, text]]


def _noted_all(said: list[list[str]], texts: list[str], names: list[str]) -> list[list[str]]:
    return [*said, *[[name, text] for name, text in zip(names, texts)]]  # noqa: B905  # the sandbox has no strict


def _last(said: list[list[str]]) -> str:
    spoken = [text for who, text in said if who]
    return spoken[-1] if spoken else ""


def _in_turn(number: int, names: list[str]) -> str:
    return names[number % len(names)]


def _picked(text: str, names: list[str]) -> str:
    found = [(text.find(name), name) for name in names if name in text]
    return min(found)[1] if found else ""


def _highest(bids: list[str], names: list[str]) -> str:
    import re

    numbers = [re.search(r"\d+(\.\d+)?", bid) for bid in bids]
    worth = [float(number.group(0)) if number else 0.0 for number in numbers]
    best = max(worth)
    return names[worth.index(best)] if best > 0 else ""


def _parts(plan: str, names: list[str]) -> list[dict[str, str]]:
    parts = []
    for line in plan.split("\n"):
        who, colon, task = line.partition(":")
        known = [name for name in names if name in who]
        if colon and known and task.strip():
            parts.append({"who": known[0], "task": task.strip()})
    return parts


def _reported(parts: list[dict[str, str]], done: list[str]) -> str:
    return "\n\n".join(f"{part['who']}, {part['task']}:\n{text}" for part, text in zip(parts, done))  # noqa: B905
