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
    async with open_registry(tmp_path) as registry_fixture:
        yield registry_fixture


def files(*texts: str, names: tuple[str, ...] = (), **attributes: tuple[Any, ...]) -> list[Passage]:
    """Return a passage for each file; ``attributes`` hold a value for each file."""
    passages = []
    for number, text in enumerate(texts):
        name = names[number] if names else f"{'abc'[number]}.md"
        file_attributes = {
            key: values[number] for key, values in attributes.items() if values[number] is not None
        }
        file_passage = passage(number + 1, text, name, 0.9 - 0.1 * number)
        passages.append(
            replace(file_passage, place=replace(file_passage.place, heading=()), attributes=file_attributes)
        )
    return passages


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
            "When does the library open on Saturdays?",
            ("The library opens at 9 am on Saturdays.", "On Saturdays the library opens at 10:30."),
        ),
        (
            "How long does the crossing with the ferry take?",
            ("The crossing with the ferry takes 40 minutes.", "On the ferry the crossing lasts 1 hour."),
        ),
        (
            "What does a ticket for the pool cost?",
            ("A ticket for the pool costs 5 EUR.", "The price of a ticket for the pool is 6 euros."),
        ),
        (
            "Who chairs the rowing club?",
            ("Anna Weber chairs the rowing club.", "The rowing club is chaired by Tom Fuchs."),
        ),
        (
            "Does the ferry run in winter?",
            ("The ferry runs in winter.", "In winter the ferry is suspended."),
        ),
        (
            "Is the pool open on Mondays?",
            ("On Mondays the pool is open as usual.", "The pool is closed on Mondays."),
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
        ("步道全长多少？", ("滨江步道全长12公里。", "滨江步道穿过树林，全长14km。")),
        ("渡轮过江需要多长时间？", ("渡轮过江需要40分钟。", "乘渡轮过江，用时1小时。")),
        ("图书馆周六几点开门？", ("图书馆周六9:00开门。", "周六，图书馆的开门时间是上午十点半。")),
        ("博物馆的馆长是谁？", ("王建国是青溪博物馆馆长。", "青溪博物馆由陈文博担任馆长。")),
        ("渡轮冬季运行吗？", ("渡轮冬季照常运行。", "渡轮冬季停运。")),
        ("游泳馆周一开放吗？", ("游泳馆周一照常开放。", "游泳馆周一不再开放。")),
        ("公园可以遛狗吗？", ("公园允许遛狗。", "公园禁止遛狗。")),
        ("医院停车免费吗？", ("医院停车免费。", "医院停车收费。")),
        ("面包店早上几点开门？", ("面包店早上6点半开门。", "面包店早上7点开门。")),
        ("北桥展览什么时候结束？", ("北桥展览6月21日结束。", "北桥展览将于6月9日结束。")),
        ("紫峰塔有多高？", ("紫峰塔高96米。", "紫峰塔的高度为88米。")),
        ("电钻的保修期是多久？", ("电钻的保修期为一年半。", "电钻的保修期为两年。")),
        ("渡轮过江需要多长时间？", ("渡轮过江需要一小时。", "渡轮过江需要两个半小时。")),
        ("打印机重多少？", ("打印机重十公斤。", "打印机重十二公斤。")),
        ("谁是金沙消防队的队长？", ("金沙消防队队长是黄立新。", "罗俊杰是金沙消防队的队长。")),
    ],
)
async def test_both_sides_of_a_difference_are_quoted_in_chinese(
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
        ("How long is the trail?", ("The trail is 12 km long.", "The trail is 12,000 m long.")),
        (
            "When does the library open?",
            ("The library opens at 5 pm on Fridays.", "On Fridays the library opens at 17:00."),
        ),
        ("How deep is the lake?", ("The depth of the lake is 21 m.", "The dam of the lake is 400 m wide.")),
        (
            "Is the pool open on Mondays?",
            ("The pool is closed on Mondays.", "The pool is no longer open on Mondays."),
        ),
        ("渡轮过江需要多长时间？", ("渡轮过江需要90分钟。", "乘渡轮过江，用时1.5小时。")),
        ("游泳馆周一开放吗？", ("游泳馆周一不开放。", "游泳馆周一闭馆。")),
        ("桥建于哪一年？", ("石桥建于1884年。", "石桥1977年刷过漆。")),
        ("宏和课程需要考试吗？", ("宏丰课程需要考试。", "宏和课程无需考试。")),
        ("祥隆中学的校长是谁？", ("祥隆中学的校长是吴志强。", "裕隆中学的校长由林丽华担任。")),
        ("电钻的保修期是多久？", ("电钻的保修期为一年半。", "电钻的保修期为18个月。")),
    ],
)
async def test_statements_about_different_subjects_or_with_equal_values_are_no_difference(
    registry: RegistryFixture, question: str, texts: tuple[str, str]
) -> None:
    answer = await quoted(registry, question, files(*texts))
    assert not answer.startswith(("The documents differ", "各文档说法不一"))


async def test_all_documents_that_differ_are_quoted(registry: RegistryFixture) -> None:
    newest = "Employees are entitled to 30 vacation days per year."
    passages = files(OLD, NEW, newest, names=("a-2021.md", "b-2023.md", "c-2024.md"))
    answer = await quoted(registry, VACATION, passages)
    assert answer.startswith(
        f"The documents differ. The newer one first:\n\n> {newest} [1]\n\n> {NEW} [2]\n\n> {OLD}"
    )


async def test_a_file_does_not_differ_from_itself(registry: RegistryFixture) -> None:
    old_passage, new_passage = files(OLD, NEW)
    assert "differ" not in await quoted(
        registry, VACATION, [old_passage, replace(new_passage, file_id=old_passage.file_id)]
    )


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
    ("question", "old", "new"),
    [
        (
            "How many inhabitants has the town?",
            "In 2010 the town had 12,000 inhabitants.",
            "In 2020 the town had 14,000 inhabitants.",
        ),
        (
            "What does a ticket cost?",
            "Last updated: May 2022\n\nA ticket costs 5 EUR.",
            "Last updated: March 2024\n\nA ticket costs 6 EUR.",
        ),
        (
            "门票多少钱？",
            "发布日期：2022年5月\n\n门票价格为30元。",
            "发布日期：2024年3月\n\n门票价格为35元。",
        ),
        ("公园可以遛狗吗？", "截至2022年，公园允许遛狗。", "自2024年起，公园禁止遛狗。"),
    ],
)
async def test_a_date_in_the_text_shows_which_one_is_newer(
    registry: RegistryFixture, question: str, old: str, new: str
) -> None:
    answer = await quoted(registry, question, files(old, new))
    assert answer.startswith(("The documents differ. The newer one first:", "各文档说法不一。先列较新的："))
    assert answer.index(new.splitlines()[-1]) < answer.index(old.splitlines()[-1])


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
async def test_unusable_dates_versions_and_authorities_leave_the_order_unchanged(
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


async def test_the_prompt_states_a_difference_and_a_complete_answer_is_unchanged(
    registry: RegistryFixture,
) -> None:
    answer_text = "It is 28 days [2]; an older policy says 25 [1]."
    reply, events, prompt = await written(registry, answer_text, names=("policy-2023.md", "policy-2024.md"))
    assert reply.content == answer_text
    assert prompt.endswith(
        "Passages [2] and [1] do not agree. [2] is newer or has more authority: answer from it, say that the "
        "others differ, and cite all of them."
    )
    assert isinstance(events[0], Cited)


async def test_the_side_that_a_model_leaves_out_is_added(registry: RegistryFixture) -> None:
    reply, events, prompt = await written(registry, "They get 25 days [1].")
    assert prompt.endswith("Passages [1] and [2] do not agree. Say so, and cite all of them.")
    assert reply.content == f"They get 25 days [1].\n\nThe documents differ.\n\n> {NEW} [2]"
    assert "".join(event.text for event in events if isinstance(event, Delta)) == reply.content
    assert [(claim.start, claim.end) for claim in reply.claims] == [(0, 21)]
