"""Documents that disagree: both are shown, the newer or more authoritative first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.registry_fixture import FixedModel, FixedStore, RegistryFixture, open_registry, passage

from portico.wire import Cited, Delta, Passage
from portico_server.core.request import Chat, ChatReply

OLD = "Employees are entitled to 25 vacation days per year."
NEW = "Employees are entitled to 28 vacation days per year."
VACATION = "How many vacation days do employees get?"


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[RegistryFixture]:
    async with open_registry(tmp_path) as opened:
        yield opened


def files(*texts: str, names: tuple[str, ...] = (), **attributes: tuple[Any, ...]) -> list[Passage]:
    """Return a passage for each file; ``attributes`` hold a value for each file."""
    found = []
    for number, text in enumerate(texts):
        name = names[number] if names else f"{'abc'[number]}.md"
        own = {key: values[number] for key, values in attributes.items() if values[number] is not None}
        made = passage(number + 1, text, name, 0.9 - 0.1 * number)
        found.append(replace(made, place=replace(made.place, heading=()), attributes=own))
    return found


async def quoted(registry: RegistryFixture, question: str, passages: list[Passage]) -> str:
    """Return the quotations of a store's app with these passages."""
    registry.add(FixedStore("docs", passages, labels={"answers": "quote"}), FixedModel("x"))
    reply, _events = await registry.call("docs", Chat(({"role": "user", "content": question},)))
    assert isinstance(reply, ChatReply)
    assert all(claim.supported for claim in reply.claims)
    return reply.content


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        (VACATION, (OLD, NEW)),
        (
            "When was the company founded?",
            ("The company was founded in 1994 in Bremen.", "The company was founded in 1996 in Bremen."),
        ),
        (
            "Are dogs allowed in the garden?",
            ("Dogs are allowed in the garden.", "Dogs are not allowed in the garden."),
        ),
        (
            "Who is the director?",
            ("The director of the museum is Anna Weber.", "The director of the museum is Tom Fuchs."),
        ),
        (
            "What is the port of the daemon?",
            ("The daemon listens on port 7419.", "The daemon listens on port 8080 by default."),
        ),
        (
            "What does the basic plan cost?",
            (
                "| Plan | Price |\n| --- | --- |\n| Basic | 10 EUR |",
                "| Plan | Price |\n| --- | --- |\n| Basic | 12 EUR |",
            ),
        ),
        (
            "How many inhabitants has the town?",
            ("In 2010 the town had 12,000 inhabitants.", "In 2020 the town had 14,000 inhabitants."),
        ),
    ],
)
async def test_both_sides_are_quoted(
    registry: RegistryFixture, question: str, texts: tuple[str, str]
) -> None:
    answer = await quoted(registry, question, files(*texts))
    assert answer.startswith("The documents differ.\n\n> ")
    assert all(text.splitlines()[-1].removesuffix(" |") in answer for text in texts)
    assert answer.count("\n\n> ") == 2


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        ("年假有多少天？", ("员工每年享有15天年假。", "员工每年享有20天年假。")),
        ("公司成立于哪一年？", ("公司于1994年在杭州成立。", "公司于1996年在杭州成立。")),
        ("宠物可以进花园吗？", ("宠物可以进入花园。", "宠物不可以进入花园。")),
    ],
)
async def test_so_they_are_in_chinese(
    registry: RegistryFixture, question: str, texts: tuple[str, str]
) -> None:
    answer = await quoted(registry, question, files(*texts))
    assert answer.startswith("各文档说法不一。\n\n> ")
    assert all(text in answer for text in texts)


@pytest.mark.parametrize(
    ("question", "texts"),
    [
        (
            "What does a stay in the Harbour Hotel cost?",
            ("A night in the Harbour Hotel costs 120 EUR.", "A night in the Alpine Hotel costs 135 EUR."),
        ),
        (
            "What does a stay cost?",
            ("A night in the Harbour Hotel costs 120 EUR.", "A night in the Alpine Hotel costs 135 EUR."),
        ),
        (
            "What does the red button do in 3 seconds?",
            (
                "The red button starts the pump in 3 seconds.",
                "The green button starts the pump in 5 seconds.",
            ),
        ),
        (
            "How many people lived there in 2010?",
            ("In 2010 the town had 12,000 people.", "In 2020 the town had 14,000 people."),
        ),
        (VACATION, (OLD, "Employees are entitled to 25 vacation days per year, as it was agreed.")),
        (VACATION, (OLD, "Employees are entitled to 40 hours of training per year.")),
    ],
)
async def test_what_is_said_of_something_else_is_no_difference(
    registry: RegistryFixture, question: str, texts: tuple[str, str]
) -> None:
    assert "differ" not in await quoted(registry, question, files(*texts))


async def test_a_file_does_not_differ_from_itself(registry: RegistryFixture) -> None:
    one, other = files(OLD, NEW)
    assert "differ" not in await quoted(registry, VACATION, [one, replace(other, file_id=one.file_id)])


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ({"names": ("policy-2023.md", "policy-2024.md")}, "newer"),
        ({"names": ("policy v1.9.md", "policy v1.10.md")}, "newer"),
        ({"valid_from": ("2023-05-01", "2024-01-01")}, "newer"),
        ({"version": ("1.9", "1.10")}, "newer"),
        ({"date": (20230101.0, 20240101.0)}, "newer"),
        ({"names": ("policy-2025.md", "policy-2024.md"), "authority": (1, 2)}, "authoritative"),
        ({"names": ("policy-2025.md", "policy-2024.md"), "date": ("2024-01-01", "2024-06-01")}, "newer"),
    ],
)
async def test_the_newer_or_more_authoritative_one_comes_first(
    registry: RegistryFixture, changes: dict[str, Any], order: str
) -> None:
    answer = await quoted(registry, VACATION, files(OLD, NEW, **changes))
    assert answer.startswith(f"The documents differ. The {order} one first:\n\n> {NEW}")
    assert OLD in answer


@pytest.mark.parametrize(
    "changes",
    [
        {"authority": (1, None)},
        {"date": (True, False)},
        {"version": ("draft", "final")},
        {"date": ("", "x" * 9000)},
        {"names": ("1" * 100_000, "2" * 100_000)},  # read quickly
    ],
)
async def test_what_tells_nothing_of_both_leaves_their_order(
    registry: RegistryFixture, changes: dict[str, Any]
) -> None:
    answer = await quoted(registry, VACATION, files(OLD, NEW, **changes))
    assert answer.startswith(f"The documents differ.\n\n> {OLD}")


async def written(
    registry: RegistryFixture, *pieces: str, names: tuple[str, ...] = ()
) -> tuple[ChatReply, list[object], str]:
    """Return a model's answer, its events, and the instruction that the model received."""
    model = FixedModel(*pieces)
    registry.add(FixedStore("docs", files(OLD, NEW, names=names)), model)
    reply, events = await registry.call("docs", Chat(({"role": "user", "content": VACATION},)))
    assert isinstance(reply, ChatReply)
    return reply, list(events), str(model.asked[0].messages[0]["content"])


async def test_a_model_is_told_and_its_answer_stays_where_it_cites_both(registry: RegistryFixture) -> None:
    said = "It is 28 days [2]; an older policy says 25 [1]."
    reply, events, told = await written(registry, said, names=("policy-2023.md", "policy-2024.md"))
    assert reply.content == said
    assert told.endswith(
        "Passages [2] and [1] do not agree. [2] is newer or has more authority: answer from it, say that "
        "the other one differs, and cite both."
    )
    assert isinstance(events[0], Cited)


async def test_the_side_that_a_model_leaves_out_is_added(registry: RegistryFixture) -> None:
    reply, events, told = await written(registry, "They get 25 days [1].")
    assert told.endswith("Passages [1] and [2] do not agree. Say so, and cite both.")
    assert reply.content == f"They get 25 days [1].\n\nThe documents differ.\n\n> {NEW} [2]"
    assert "".join(event.text for event in events if isinstance(event, Delta)) == reply.content
    assert [(claim.start, claim.end) for claim in reply.claims] == [(0, 21)]
