"""Conversations converted to prompts: follow-ups, budgets, omissions."""

import pytest
from tests.registry_fixture import passage

from portico_server.core.request import Message
from portico_server.features.answers.prompt import (
    PromptBudget,
    budget,
    compose,
    search_query,
    split,
    tokens,
)


def user(text: str) -> Message:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("earlier", "question", "follows"),
    [
        ("Which port does the daemon use?", "Why?", True),
        ("Which port does the daemon use?", "And on Linux?", True),
        ("Which port does the daemon use?", "How can I change it in the settings?", True),
        ("Which port does the daemon use?", "Where are uploaded files stored on disk?", False),
        ("守护进程监听哪个端口？", "它可以改吗？", True),
        ("守护进程监听哪个端口？", "上传的文件保存在哪个目录？", False),
    ],
)
def test_short_follow_ups_take_the_question_before_along(earlier: str, question: str, follows: bool) -> None:
    turns = split([user(earlier), {"role": "assistant", "content": "8642"}, user(question)])
    assert search_query(turns) == (f"{earlier}\n{question}" if follows else question)


def test_the_first_question_is_the_whole_search_query() -> None:
    assert search_query(split([user("Why?")])) == "Why?"


def test_a_pasted_text_is_searched_by_its_beginning() -> None:
    assert len(search_query(split([user("word " * 5_000)]))) == 2_000


def test_text_parts_form_the_question_and_images_stay_in_the_prompt() -> None:
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    turns = split([{"role": "user", "content": [{"type": "text", "text": "What is this?"}, image]}])
    messages = compose(turns, [passage(1, "A lighthouse.")], budget(4096, None, tiny=True))
    assert turns.question == "What is this?"
    assert messages[-1]["content"][1] == image
    assert "A lighthouse." in messages[-1]["content"][0]["text"]


def test_tool_results_after_the_question_stay_after_it() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}]}
    result = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
    messages = compose(split([user("What?"), call, result]), [passage(1, "x")], budget(4096, None, tiny=True))
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "tool"]


@pytest.mark.parametrize(
    ("context", "asked", "kind", "expected"),
    [
        (2048, None, {"tiny": True}, PromptBudget(2048, 256, 200, brief=True)),
        (32_768, None, {"tiny": True}, PromptBudget(32_768, 256, 200, brief=True)),
        (32_768, None, {}, PromptBudget(32_768, 1024, 1600)),
        (None, None, {"quick": True}, PromptBudget(16_384, 1024, 4096)),
        (131_072, 4_000, {"quick": True}, PromptBudget(131_072, 4_000, 8_192)),
        (2048, 9_999, {"tiny": True}, PromptBudget(2048, 1024, 200, brief=True)),
        (2048, 1, {"tiny": True}, PromptBudget(2048, 64, 200, brief=True)),
    ],
)
def test_a_context_is_divided_between_answer_and_passages_by_model_kind(
    context: int | None, asked: int | None, kind: dict[str, bool], expected: PromptBudget
) -> None:
    assert budget(context, asked, **kind) == expected


def test_tiny_models_get_few_passages_and_quick_ones_many() -> None:
    assert budget(32_768, None, tiny=True).count == 3
    assert budget(32_768, None, quick=True).count == 8


def test_the_prompt_fits_and_the_oldest_turns_go_first() -> None:
    long = "The harbour has a light. It turns at night. " * 60
    history = [message for n in range(20) for message in (user(f"question {n} " * 20), user(f"answer {n}"))]
    messages = compose(
        split([*history, user("Which light?")]),
        [passage(n, long) for n in (1, 2, 3, 4)],
        budget(2048, None, tiny=True),
    )
    total = sum(tokens(str(message["content"])) for message in messages)
    assert total <= 2048 - 256
    assert "question 0 " not in str(messages) and "answer 19" in str(messages)
    assert "guide.md" not in str(messages) and "[4]" not in str(messages), (
        "a tiny model answers with the number"
    )


def test_passages_are_numbered_and_named_for_a_model_that_can_cite_them() -> None:
    passages = [passage(n, "The harbour has a light.") for n in (1, 2)]
    messages = compose(split([user("Which light?")]), passages, budget(8192, None))
    assert "[2] guide.md" in messages[-1]["content"] and "[1]" in messages[0]["content"]


def test_chinese_counts_a_token_a_character() -> None:
    assert (tokens("高山植物"), tokens("abcdef"), tokens("")) == (4, 2, 0)
