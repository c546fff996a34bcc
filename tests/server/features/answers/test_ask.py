"""A store used as an app: passages first, then the model's words, with nothing invented."""

from collections.abc import AsyncIterator, Hashable, Sequence
from pathlib import Path

import pytest
from tests.registry_fixture import (
    FixedModel,
    FixedStore,
    RegistryFixture,
    ScriptedServable,
    open_registry,
    passage,
)

from portico.wire import Cited, Claimed, Delta, Passage
from portico_server.core.context import Context
from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.core.principal import LOCAL, Principal
from portico_server.core.request import Chat, ChatReply, Embed, Request, Result, SearchResult, Vectors
from portico_server.core.servable import Card
from portico_server.core.training_passages import StorePassage
from portico_server.features.answers.store_apps import StoreApps


async def _never(_request: Request, _context: Context) -> Result:
    raise AssertionError


PORT = passage(1, "The daemon listens on port 7419.")
STOP = passage(2, "Stop the daemon with the command down.")


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[RegistryFixture]:
    async with open_registry(tmp_path) as registry:
        yield registry


TINY = {"parameters": 135_000_000}


def ask(*texts: str, **options: object) -> Chat:
    """Return a conversation of user messages with the assistant's `ok` between them."""
    messages: list[dict[str, object]] = []
    for text in texts:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "ok"}]
    return Chat(tuple(messages[:-1]), options)


async def answer(
    daemon: RegistryFixture, request: Chat, caller: Principal = LOCAL
) -> tuple[ChatReply, list[object]]:
    result, events = await daemon.call("docs", request, caller)
    assert isinstance(result, ChatReply)
    return result, list(events)


async def test_passages_come_before_the_first_word_and_are_numbered(daemon: RegistryFixture) -> None:
    daemon.add(FixedStore("docs", [PORT, STOP]), FixedModel("Port ", "7419 [1]."))
    reply, events = await answer(daemon, ask("Which port does the daemon listen on?"))
    [claim] = reply.claims
    assert events == [Cited((PORT, STOP)), Delta("Port"), Delta(" 7419 [1]."), Claimed(claim)]
    assert (claim.start, claim.end, [source.rank for source in claim.evidence]) == (0, 14, [1])
    assert (reply.content, reply.citations, reply.model) == ("Port 7419 [1].", (PORT, STOP), "docs")
    assert reply.usage.prompt_tokens == 10


async def test_the_model_is_shown_the_passages_and_the_question(daemon: RegistryFixture) -> None:
    voice = FixedModel("x")
    daemon.add(FixedStore("docs", [PORT]), voice)
    await answer(daemon, ask("Which port does the daemon listen on?"))
    prompt = voice.asked[0].messages[-1]["content"]
    assert "[1] guide.md, Ports\nThe daemon listens on port 7419.\n[/1]" in prompt
    assert prompt.endswith("Using only the passages, answer: Which port does the daemon listen on?")


QUICK = {"chat", "long_prompts"}


@pytest.mark.parametrize(
    ("labels", "capabilities", "searched", "citation_count"),
    [
        ({"context_length": 32_768}, QUICK, 50, 40),
        ({"context_length": 2048}, QUICK, 16, 9),
        ({"context_length": 32_768, **TINY}, {"chat"}, 16, 3),
        ({"context_length": 32_768, "answers": "quote"}, QUICK, 16, 1),
    ],
)
async def test_a_model_with_a_long_context_gets_more_passages(
    daemon: RegistryFixture,
    labels: dict[str, object],
    capabilities: set[str],
    searched: int,
    citation_count: int,
) -> None:
    passages = [passage(n, f"The daemon of site {n} listens on port {7000 + n}.") for n in range(1, 41)]
    store = FixedStore("docs", passages)
    daemon.add(store, FixedModel("x", labels=labels, capabilities=capabilities))
    reply, _events = await answer(daemon, ask("Which port does the daemon of site 3 listen on?"))
    assert store.asked[0].max_num_results == searched
    assert [item.rank for item in reply.citations] == list(range(1, citation_count + 1))


async def test_passages_that_do_not_fit_are_not_cited(daemon: RegistryFixture) -> None:
    long = "The daemon listens on port 7419. " + "Much else is said here about nothing. " * 60
    model = FixedModel("7419 [1].", labels={"context_length": 4096})
    daemon.add(FixedStore("docs", [passage(n, long) for n in range(1, 9)]), model)
    reply, _events = await answer(daemon, ask("Which port does the daemon listen on?"))
    prompt = model.asked[0].messages[-1]["content"]
    assert len(reply.citations) == 3 and "[3] guide.md" in prompt and "[4]" not in prompt


async def test_the_sides_of_a_contradiction_are_shown_although_passages_fill_the_prompt(
    daemon: RegistryFixture,
) -> None:
    long = "The gateway listens on port 7419. " + "Much else is said here about nothing. " * 90
    texts = [long, *(f"Site {n}. " + "Nothing about the gateway is said here. " * 90 for n in range(6))]
    passages = [passage(n, text, f"site{n}.md") for n, text in enumerate(texts, 1)]
    last = passage(8, "The gateway listens on port 8080.", "old.md")
    model = FixedModel("7419 [1].", labels={"context_length": 4096})
    daemon.add(FixedStore("docs", [*passages, last]), model)
    reply, _events = await answer(daemon, ask("Which port does the gateway listen on?"))
    prompt = model.asked[0].messages[-1]["content"]
    assert reply.citations[-1].filename == "old.md" and len(reply.citations) < 8
    assert "port 7419" in prompt and "port 8080" in prompt


async def test_a_contradiction_is_remarked_in_chinese_for_a_chinese_question(daemon: RegistryFixture) -> None:
    passages = [passage(1, "网关监听 7419 端口。", "a.md"), passage(2, "网关监听 8080 端口。", "b.md")]
    model = FixedModel("7419 [1]。")
    daemon.add(FixedStore("docs", passages), model)
    await answer(daemon, ask("网关监听哪个端口？"))
    rules = model.asked[0].messages[0]["content"]
    assert "说法不一" in rules and "Passages" not in rules


async def test_a_tiny_model_sees_the_sentences_alone_and_is_asked_for_one(daemon: RegistryFixture) -> None:
    voice = FixedModel("x", labels=TINY)
    daemon.add(FixedStore("docs", [PORT]), voice)
    await answer(daemon, ask("Which port does the daemon listen on?"))
    assert voice.asked[0].messages[-1]["content"] == (
        "Passages:\nThe daemon listens on port 7419.\n\n"
        "Using only the passages, answer in one sentence: Which port does the daemon listen on?"
    )


async def test_citations_of_passages_that_do_not_exist_are_removed(daemon: RegistryFixture) -> None:
    daemon.add(FixedStore("docs", [PORT]), FixedModel("It is 7419 [", "9", "]. Sure [1", ", 7]."))
    reply, events = await answer(daemon, ask("Which port?"))
    assert reply.content == "It is 7419. Sure [1]."
    assert "".join(event.text for event in events if isinstance(event, Delta)) == reply.content


@pytest.mark.parametrize(
    ("question", "text", "sentence"),
    [
        ("Who won the chess olympiad?", "Bread is baked.", "This is not in these documents."),
        (
            "Wer hat die Schacholympiade gewonnen?",
            "Das Brot ist gebacken und die Semmel nicht.",
            "Das steht nicht in diesen Dokumenten.",
        ),
    ],
)
async def test_a_question_without_relevant_passages_is_refused_without_asking_a_model(
    daemon: RegistryFixture, question: str, text: str, sentence: str
) -> None:
    voice = FixedModel("Invented.")
    nearest = passage(1, text)
    daemon.add(FixedStore("docs", [nearest]), voice)
    reply, events = await answer(daemon, ask(question))
    assert (reply.content, reply.citations) == (sentence, ())
    assert events == [Cited((), (nearest,)), Delta(sentence)]
    assert voice.asked == []


NEAR = tuple(passage(line, f"Bus {line} stops at the market.") for line in range(1, 9))
"""Passages about buses, none of which says what a bus is."""


async def test_a_model_decides_whether_near_passages_answer(daemon: RegistryFixture) -> None:
    model = FixedModel("These documents only list where buses stop [1].")
    daemon.add(FixedStore("docs", NEAR), model)
    reply, _events = await answer(daemon, ask("What is a bus?"))
    [request] = model.asked
    assert request.messages[0]["content"].endswith("say so, and say what comes nearest to an answer.")
    assert (reply.content, reply.citations[0]) == (model.pieces[0], NEAR[0])


async def test_a_tiny_model_is_not_asked_about_passages_that_do_not_answer(daemon: RegistryFixture) -> None:
    model = FixedModel("Invented.", labels=TINY)
    daemon.add(FixedStore("docs", NEAR), model)
    reply, events = await answer(daemon, ask("What is a bus?"))
    assert model.asked == []
    assert reply.content == "\n\n".join(
        (
            "I found no sentence in these documents that answers this. The nearest sections:",
            *(f"> **guide.md, line {n} · Ports**\n>\n> Bus {n} stops at the market." for n in (1, 2, 3)),
        )
    )
    assert events[0] == Cited((), NEAR[:3])


async def test_an_empty_store_answers_in_chinese_to_chinese(daemon: RegistryFixture) -> None:
    daemon.add(FixedStore("docs"), FixedModel("编造"))
    reply, _events = await answer(daemon, ask("雪莲花长在哪里？"))
    assert reply.content == "这些文档中没有相关内容。"


async def test_history_and_the_callers_instructions_are_kept(daemon: RegistryFixture) -> None:
    voice = FixedModel("x")
    daemon.add(FixedStore("docs", [PORT]), voice)
    request = ask("Hello there", "Which port does the daemon listen on?")
    await answer(daemon, Chat(({"role": "system", "content": "Talk like a sailor."}, *request.messages)))
    messages = voice.asked[-1].messages
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"].startswith("Talk like a sailor.")
    assert messages[1]["content"] == "Hello there"


async def test_a_short_follow_up_is_searched_with_the_question_before_it(daemon: RegistryFixture) -> None:
    shelf = FixedStore("docs", [PORT, STOP])
    daemon.add(shelf, FixedModel("x"))
    await answer(daemon, ask("Which port does the daemon use?", "How do I stop it?"))
    assert shelf.asked[0].query == "Which port does the daemon use?\nHow do I stop it?"


async def test_a_follow_up_is_rewritten_by_the_model_before_the_search(
    daemon: RegistryFixture,
) -> None:
    shelf, voice = FixedStore("docs", [PORT, STOP]), FixedModel("How do I stop the daemon?")
    daemon.add(shelf, voice)
    reply, events = await answer(daemon, ask("Which port does the daemon use?", "How do I stop it?"))
    assert shelf.asked[0].query == "How do I stop the daemon?"
    prompt = voice.asked[0].messages[-1]["content"]
    assert "user: Which port does the daemon use?\nassistant: ok" in prompt
    assert prompt.endswith("Last question: How do I stop it?")
    # The model's search query is not part of the answer.
    assert reply.content == "How do I stop the daemon?"
    assert sum(isinstance(event, Cited) for event in events) == 1
    assert len(voice.asked) == 2


async def test_the_first_question_is_searched_as_it_is(daemon: RegistryFixture) -> None:
    shelf, voice = FixedStore("docs", [PORT]), FixedModel("Another question about the port?")
    daemon.add(shelf, voice)
    await answer(daemon, ask("Which port does the daemon use?"))
    assert shelf.asked[0].query == "Which port does the daemon use?"
    assert len(voice.asked) == 1


@pytest.mark.parametrize("said", ["", "Bananas?", "The daemon.\nIt stops.", "the daemon " * 60])
async def test_an_unusable_rewrite_is_replaced_by_both_questions_for_the_search(
    daemon: RegistryFixture, said: str
) -> None:
    shelf = FixedStore("docs", [PORT, STOP])
    daemon.add(shelf, FixedModel(said))
    await answer(daemon, ask("Which port does the daemon use?", "How do I stop it?"))
    assert shelf.asked[0].query == "Which port does the daemon use?\nHow do I stop it?"


async def test_a_tiny_model_is_not_asked_to_rewrite(daemon: RegistryFixture) -> None:
    shelf, voice = FixedStore("docs", [PORT, STOP]), FixedModel("How do I stop the daemon?", labels=TINY)
    daemon.add(shelf, voice)
    await answer(daemon, ask("Which port does the daemon use?", "How do I stop it?"))
    assert shelf.asked[0].query == "Which port does the daemon use?\nHow do I stop it?"
    assert len(voice.asked) == 1


async def test_options_are_passed_to_the_model_with_a_default_token_limit(daemon: RegistryFixture) -> None:
    voice = FixedModel("x", labels={**TINY, "context_length": 2048})
    daemon.add(FixedStore("docs", [PORT]), voice)
    await answer(daemon, ask("Which port?", temperature=0.7, stop=["."], stream=True))
    assert voice.asked[0].options == {
        "temperature": 0.7,
        "stop": ["."],
        "max_tokens": 256,
        "frequency_penalty": 0.3,
    }


async def test_the_callers_token_limit_is_kept_and_quick_models_get_more_tokens(
    daemon: RegistryFixture,
) -> None:
    voice = FixedModel("x", labels={"context_length": 32_768}, capabilities={"chat", "long_prompts"})
    daemon.add(FixedStore("docs", [PORT]), voice)
    await answer(daemon, ask("Which port?", max_completion_tokens=9))
    await answer(daemon, ask("Which port?"))
    assert voice.asked[0].options == {"temperature": 0, "max_completion_tokens": 9}
    assert voice.asked[1].options == {"temperature": 0, "max_tokens": 1_024}
    assert voice.asked[1].messages[-1]["content"].endswith("Using only the passages, answer: Which port?")


async def test_an_answer_that_repeats_itself_is_stopped(daemon: RegistryFixture) -> None:
    daemon.add(FixedStore("docs", [PORT]), FixedModel(*["It is 7419, I think. "] * 50))
    reply, events = await answer(daemon, ask("Which port?"))
    text = "".join(event.text for event in events if isinstance(event, Delta))
    assert reply.content == text and 3 <= text.count("7419") <= 4
    assert reply.citations == (PORT,) and reply.usage.completion_tokens > 0


async def test_passages_without_shared_words_are_accepted_from_a_trusted_embedding_model(
    daemon: RegistryFixture,
) -> None:
    strong = ScriptedServable(Card("bge", "model", labels={"fusion_weight": 0.6}), _never)
    daemon.add(FixedStore("docs", [PORT], labels={"embedding_model": "bge"}), FixedModel("7419 [1]."), strong)
    reply, _events = await answer(daemon, ask("Unter welcher Nummer erreicht man ihn?"))
    assert reply.content == "7419 [1]."


@pytest.mark.parametrize(("model", "uses_vectors"), [("meanings", True), ("", False)])
async def test_word_vectors_judge_relevance_if_an_embedding_model_ranks_the_passages(
    daemon: RegistryFixture, model: str, uses_vectors: bool
) -> None:
    judged: list[str] = []

    async def embed(request: Request, _context: Context) -> Result:
        assert isinstance(request, Embed)
        judged.extend(request.input)
        return Vectors(tuple(b"\0\0\x80?" for _ in request.input), 1)

    strong = ScriptedServable(Card("meanings", "model", capabilities=frozenset({"embeddings"})), _never)
    words = ScriptedServable(Card("words", "model", capabilities=frozenset({"embeddings", "words"})), embed)
    store = FixedStore("docs", [PORT], labels={"embedding_model": model, "answers": "quote"})
    daemon.add(store, FixedModel("x"), strong, words)
    reply, _events = await answer(daemon, ask("Which port does the daemon listen on?"))
    assert "7419" in reply.content
    assert ("port" in judged) == uses_vectors


@pytest.mark.parametrize(("options", "param"), [({"n": 2}, "n"), ({"logprobs": True}, "logprobs")])
async def test_unsupported_options_that_change_the_answer_are_refused(
    daemon: RegistryFixture, options: dict[str, object], param: str
) -> None:
    daemon.add(FixedStore("docs", [PORT]), FixedModel("x"))
    with pytest.raises(InvalidRequest) as caught:
        await answer(daemon, ask("Which port?", **options))
    assert caught.value.param == param


async def test_a_prompt_too_long_for_the_model_is_made_shorter(daemon: RegistryFixture) -> None:
    too_long = InvalidRequest("too long", code="context_length_exceeded", param="messages")
    voice = FixedModel("7419", errors=[too_long])
    long = "The daemon listens on port 7419. " + "Much else is said here about nothing. " * 80
    daemon.add(FixedStore("docs", [passage(n, long) for n in (1, 2, 3)]), voice)
    reply, _events = await answer(daemon, ask("Which port does the daemon listen on?"))
    first, second = (len(request.messages[-1]["content"]) for request in voice.asked)
    assert reply.content == "7419" and second < 0.6 * first
    assert all("[2] guide.md" in request.messages[-1]["content"] for request in voice.asked)


async def test_the_caller_needs_the_right_to_read_the_store(daemon: RegistryFixture) -> None:
    daemon.add(FixedStore("docs", [PORT]), FixedModel("x"))
    with pytest.raises(Exception, match="stores:docs:read"):
        await answer(daemon, ask("Which port?"), Principal("k", frozenset({"apps:docs:call", "chat"})))


async def test_only_stores_that_are_apps_answer(daemon: RegistryFixture) -> None:
    daemon.add(FixedStore("docs", [PORT]), FixedStore("quiet", [PORT], app=False), FixedModel("x"))
    assert [card.name for card in await daemon.registry.cards(LOCAL, "app")] == ["docs"]
    with pytest.raises(NotFound):
        await daemon.call("quiet", ask("Which port?"))


async def test_a_store_of_another_key_is_not_found_as_an_app(daemon: RegistryFixture) -> None:
    daemon.add(FixedStore("docs", [PORT], owner="key_a"), FixedModel("x"))
    stranger = Principal("key_b", frozenset({"chat", "apps:*:call", "stores:*:read"}))
    assert await daemon.registry.cards(stranger, "app") == []
    with pytest.raises(NotFound):
        await answer(daemon, ask("Which port?"), stranger)


async def test_other_requests_and_empty_conversations_are_refused(daemon: RegistryFixture) -> None:
    daemon.add(FixedStore("docs", [PORT]), FixedModel("x"))
    with pytest.raises(InvalidRequest, match="chat"):
        await daemon.call("docs", Embed(("x",)))
    with pytest.raises(InvalidRequest, match="no question to answer"):
        await daemon.call("docs", Chat(({"role": "user", "content": "  "},)))


@pytest.mark.parametrize(
    ("question", "waiting", "said"),
    [
        ("Which port is it?", 0, "There are no documents to search."),
        ("每天做多少个月饼?", 0, "这里没有可供检索的文档。"),
        ("Which port is it?", 3, "The documents are still being read. Ask again in a moment."),
    ],
)
async def test_the_answer_of_an_empty_store_says_that_it_is_empty(
    daemon: RegistryFixture, question: str, waiting: int, said: str
) -> None:
    async def nothing(_request: Request, _context: Context) -> Result:
        return SearchResult((), files=0, waiting=waiting)

    daemon.add(ScriptedServable(Card("docs", "store", labels={"app": True}), nothing), FixedModel("invented"))
    reply, events = await answer(daemon, ask(question))
    assert (reply.content, events) == (said, [Cited(()), Delta(said)])


UNREAD = "\n\nFiles still being read: 3 of 9."


@pytest.mark.parametrize(
    ("passages", "waiting", "labels", "options", "ends"),
    [
        ((PORT,), 3, {"answers": "write"}, {}, UNREAD),
        ((PORT,), 3, {"answers": "quote"}, {}, UNREAD),
        ((), 3, {"answers": "write"}, {}, UNREAD),
        ((PORT,), 0, {"answers": "write"}, {}, "[1]."),
        ((PORT,), 3, {"answers": "write"}, {"response_format": {"type": "json_object"}}, "[1]."),
    ],
)
async def test_an_answer_during_indexing_ends_with_the_number_of_unread_files(
    daemon: RegistryFixture,
    passages: tuple[Passage, ...],
    waiting: int,
    labels: dict[str, object],
    options: dict[str, object],
    ends: str,
) -> None:
    async def partly(_request: Request, _context: Context) -> Result:
        return SearchResult(passages, files=6, waiting=waiting)

    card = Card("docs", "store", labels={"app": True, "id": "vs_docs", **labels})
    daemon.add(ScriptedServable(card, partly), FixedModel("Port 7419 [1]."))
    reply, events = await answer(daemon, ask("Which port does the daemon listen on?", **options))
    assert reply.content.endswith(ends)
    assert "".join(event.text for event in events if isinstance(event, Delta)) == reply.content


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}, {"tool_choice": "none"}])
async def test_an_app_that_quotes_answers_an_editor_that_offers_tools(
    daemon: RegistryFixture, choice: dict[str, object]
) -> None:
    store, voice = FixedStore("docs", [PORT, STOP], labels={"answers": "quote"}), FixedModel("Invented.")
    daemon.add(store, voice)
    tools = [{"type": "function", "function": {"name": "shell"}}]
    plain, _ = await answer(daemon, ask("Which port does the daemon listen on?"))
    system = {"role": "system", "content": "You are a coding agent. " * 2_000}
    context = {"role": "user", "content": "<environment_context>\n<cwd>/home</cwd>\n</environment_context>"}
    question = {"role": "user", "content": "Which port does the daemon listen on?"}
    reply, _ = await answer(daemon, Chat((system, context, question), {"tools": tools, **choice}))
    assert reply.content == plain.content and "7419" in reply.content
    assert {search.query for search in store.asked} == {question["content"]} and not voice.asked


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "shell"}}], ids=["required", "named"]
)
async def test_a_required_tool_call_is_made_by_the_model(daemon: RegistryFixture, choice: object) -> None:
    voice = FixedModel("7419")
    daemon.add(FixedStore("docs", [PORT], labels={"answers": "quote"}), voice)
    tools = [{"type": "function", "function": {"name": "shell"}}]
    await answer(daemon, ask("Which port does the daemon listen on?", tools=tools, tool_choice=choice))
    assert [request.options["tools"] for request in voice.asked] == [tools]


@pytest.mark.parametrize(
    ("search", "limit", "labels", "driver"),
    [
        ({"steps": "auto", "max_seconds": 5}, 0, {"answers": "write"}, "default"),
        ({"steps": 3}, 3, {"answers": "quote"}, ""),
    ],
)
async def test_search_steps_follow_the_store_settings_and_are_driven_by_trusted_models(
    daemon: RegistryFixture, search: dict[str, object], limit: int, labels: dict[str, object], driver: str
) -> None:
    shelf = FixedStore("docs", [PORT, STOP], labels={"search": search})
    daemon.add(shelf, FixedModel("Port 7419 [1].", labels=labels))
    await answer(daemon, ask("Which port does the daemon listen on?"))
    steps = shelf.asked[0].steps
    assert steps is not None
    assert (steps.limit, steps.model) == (limit, driver)
    assert steps.max_seconds == search.get("max_seconds", 20.0)


@pytest.mark.parametrize(
    ("search", "reranker"),
    [
        (None, "auto"),
        ({"steps": "auto"}, "auto"),
        ({"reranker": "off"}, ""),
        ({"reranker": "judge"}, "judge"),
    ],
)
async def test_a_search_uses_the_reranker_setting_of_its_store(
    daemon: RegistryFixture, search: dict[str, object] | None, reranker: str
) -> None:
    shelf = FixedStore("docs", [PORT], labels={"search": search})
    daemon.add(shelf, FixedModel("x"))
    await answer(daemon, ask("Which port does the daemon listen on?"))
    assert shelf.asked[0].refine.reranker == reranker


async def test_a_store_with_search_steps_off_searches_once(daemon: RegistryFixture) -> None:
    shelf = FixedStore("docs", [PORT], labels={"search": {"steps": "off", "max_calls": 2}})
    daemon.add(shelf, FixedModel("x"))
    await answer(daemon, ask("Which port does the daemon listen on?"))
    assert shelf.asked[0].steps is None


async def test_proposed_questions_are_answerable_and_cached_until_the_store_changes(
    daemon: RegistryFixture,
) -> None:
    kestrel = "The Kestrel router is a small device that connects the office to the internet."
    store = FixedStore("docs", [passage(1, kestrel, "router.md"), STOP])
    daemon.add(store)
    apps = StoreApps(daemon.registry, daemon.trust)
    text = f"# What does a moon of cheese weigh?\n\n{kestrel}"
    texts = [StorePassage(1, "router.md", (), text)]

    async def read() -> Sequence[StorePassage]:
        return texts

    async def proposed(version: Hashable) -> Sequence[str]:
        async def work(context: Context) -> Sequence[str]:
            return await apps.propose(store.card, version, read, context)

        questions: Sequence[str] = await daemon.runner.wait(
            await daemon.runner.begin("questions", "docs", LOCAL, work)
        )
        return questions

    assert await proposed(1) == ["What is the Kestrel router?"]
    assert [search.query for search in store.asked] == [
        "What does a moon of cheese weigh?",
        "What is the Kestrel router?",
    ]
    texts = [StorePassage(1, "gone.md", (), kestrel)]
    assert await proposed(1) == ["What is the Kestrel router?"]
    assert len(store.asked) == 2
    assert await proposed(2) == []  # another file answers it
    assert await proposed(None) == []
    assert len(store.asked) == 4
