"""The flows of teams: who speaks next, and what each member receives. Members are identified only by their names.

The daemon also uses this module to compose the teams of its configuration, so it does not depend on agents or clients.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from portico import flow
from portico._step import Step
from portico.flow import bind, index, input, output, pipeline, state, template

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
class Speaker:
    """A team member. The others see its ``name``; ``deployed`` is the name of the agent or model that answers.

    If ``deployed`` is empty, the member is a person, who has ``limit`` seconds to answer.
    """

    name: str
    deployed: str = ""
    limit: float = 86_400.0

    def says(self, message: Any) -> Step:
        """Return a step in which this speaker answers a message."""
        if self.deployed:
            return flow.agent(self.deployed, message=message)
        question = message if message is not flow.value else template("{said}", said=message)
        return flow.approve(question, returns=str, limit=self.limit)

    @property
    def step_name(self) -> str:
        return re.sub(r"\W", "_", self.name)


def sequence(speakers: Sequence[Speaker]) -> Step:
    """Ask one member after another; each receives the previous answer, and the last answer is the result."""
    return pipeline(
        *(speaker.says(flow.value).named(f"turn{number}") for number, speaker in enumerate(speakers, 1))
    )


def round_robin(speakers: Sequence[Speaker], rounds: int, final: str) -> Step:
    """Members speak in order for ``rounds`` rounds, or until ``final`` occurs in an answer."""
    choose = bind(_in_turn, index, [speaker.name for speaker in speakers])
    return _talk(speakers, choose, rounds * len(speakers), final)


def moderated(moderator: Speaker, speakers: Sequence[Speaker], turns: int, final: str) -> Step:
    """The moderator selects the speaker of each turn, until it says DONE."""
    names = [speaker.name for speaker in speakers]
    question = template(CHOOSE, task=input, told=output("told"), names=", ".join(names))
    choose = pipeline(
        told=bind(_transcript, state.said),
        asked=moderator.says(question),
        picked=bind(_pick, output("asked"), names),
    )
    return _talk(speakers, choose, turns, final)


def bidding(speakers: Sequence[Speaker], turns: int, final: str) -> Step:
    """Before each turn, all members bid how important it is that they speak. The highest bidder speaks."""
    bids = [
        speaker.says(template(BID, task=input, told=output("told"), who=speaker.name)).named(
            speaker.step_name
        )
        for speaker in speakers
    ]
    choose = pipeline(
        told=bind(_transcript, state.said),
        bids=flow.parallel(*bids),
        picked=bind(_highest, output("bids"), [speaker.name for speaker in speakers]),
    )
    return _talk(speakers, choose, turns, final)


def debate(speakers: Sequence[Speaker], judge: Speaker, rounds: int) -> Step:
    """All members argue in parallel for ``rounds`` rounds; the judge's answer is the result."""
    arguing = [
        speaker.says(template(ARGUE, task=input, told=output("told"), who=speaker.name)).named(
            speaker.step_name
        )
        for speaker in speakers
    ]
    step = pipeline(
        told=bind(_transcript, state.said),
        all=flow.parallel(*arguing),
        noted=bind(_noted_all, state.said, output("all"), [speaker.name for speaker in speakers]).save(
            "said"
        ),
    )
    return pipeline(
        rounds=flow.loop(step, limit=rounds, state={"said": []}),
        told=bind(_transcript, output("rounds")),
        verdict=judge.says(template(JUDGE, task=input, told=output("told"))),
    )


def hierarchy(manager: Speaker, speakers: Sequence[Speaker], concurrency: int) -> Step:
    """The manager divides the task among the members, the parts run in parallel, and the manager concludes."""
    names = [speaker.name for speaker in speakers]
    works = {speaker.name: speaker.says(flow.item["task"]).named(speaker.step_name) for speaker in speakers}
    return pipeline(
        plan=manager.says(template(PLAN, task=input, names=", ".join(names))),
        parts=bind(_parts, output("plan"), names),
        done=flow.warp(flow.switch(works, on=flow.item["who"]), concurrency=concurrency),
        told=bind(_reported, output("parts"), output("done")),
        answer=manager.says(template(CONCLUDE, task=input, told=output("told"))),
    )


def _talk(speakers: Sequence[Speaker], choose: Step, turns: int, final: str) -> Step:
    """Return a flow of at most ``turns`` turns. ``choose`` selects the speaker of each turn. The flow ends when it
    selects nobody, or when ``final`` occurs in an answer.
    """
    speak = {
        speaker.name: pipeline(
            told=bind(_transcript, state.said),
            said=speaker.says(template(ASK, task=input, told=output("told"), who=speaker.name)),
            noted=bind(_with_turn, state.said, speaker.name, output("said")).save("said"),
        )
        for speaker in speakers
    }
    over = bind(_with_turn, state.said, "", "")
    step = pipeline(who=choose, turn=flow.switch(speak, on=output("who"), default=over))
    ends = (lambda said: not said[-1][0] or final in said[-1][1]) if final else (lambda said: not said[-1][0])
    return pipeline(
        talk=flow.loop(step, limit=turns, until=ends, state={"said": []}), answer=bind(_last, output("talk"))
    )


# The following functions are sent to the daemon: each must work without the rest of this module.
def _transcript(turns: list[list[str]]) -> str:
    return "\n\n".join(f"{who}: {text}" for who, text in turns) or "Nothing yet."


def _with_turn(turns: list[list[str]], speaker: str, text: str) -> list[list[str]]:
    return [*turns, [speaker, text]]


def _noted_all(turns: list[list[str]], texts: list[str], names: list[str]) -> list[list[str]]:
    return [*turns, *[[name, text] for name, text in zip(names, texts)]]  # noqa: B905  # the sandbox has no strict


def _last(turns: list[list[str]]) -> str:
    spoken_texts = [text for speaker, text in turns if speaker]
    return spoken_texts[-1] if spoken_texts else ""


def _in_turn(number: int, names: list[str]) -> str:
    return names[number % len(names)]


def _pick(text: str, names: list[str]) -> str:
    positions = [(text.find(name), name) for name in names if name in text]
    return min(positions)[1] if positions else ""


def _highest(bids: list[str], names: list[str]) -> str:
    import re

    numbers = [re.search(r"\d+(\.\d+)?", bid) for bid in bids]
    worth = [float(number.group(0)) if number else 0.0 for number in numbers]
    best = max(worth)
    return names[worth.index(best)] if best > 0 else ""


def _parts(plan: str, names: list[str]) -> list[dict[str, str]]:
    parts = []
    for line in plan.split("\n"):
        member, colon, task = line.partition(":")
        known_names = [name for name in names if name in member]
        if colon and known_names and task.strip():
            parts.append({"who": known_names[0], "task": task.strip()})
    return parts


def _reported(parts: list[dict[str, str]], results: list[str]) -> str:
    return "\n\n".join(f"{part['who']}, {part['task']}:\n{text}" for part, text in zip(parts, results))  # noqa: B905
