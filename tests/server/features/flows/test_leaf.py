"""The behaviour of each kind of step."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.server.features.flows.steps import Bench, code, pipeline, ref, spec

from portico import Client
from portico.errors import InvalidRequest, PorticoError
from portico.wire import Asked, Delta, StepFinished, StepStarted, Usage


def llm(user: Any = None, name: str = "m", **more: Any) -> dict[str, Any]:
    return {
        "op": "llm",
        "name": name,
        "model": "clerk",
        **({"user": user} if user is not None else {}),
        **more,
    }


class TestLlm:
    def test_the_input_value_is_sent_as_the_user_message(self, bench: Bench) -> None:
        assert bench(llm(), "hello") == "hello"

    def test_fills_a_template_from_the_input_value(self, bench: Bench) -> None:
        assert bench(llm("say {a} and {b}"), {"a": "x", "b": [1]}) == "say x and [\n  1\n]"

    def test_fills_a_template_from_declared_variables(self, bench: Bench) -> None:
        user = {"$template": "{{literal}} {x}", "$with": {"x": ref("input.deep[0].key")}}
        assert bench(llm(user), {"deep": [{"key": "found"}]}) == "{literal} found"

    def test_an_error_names_the_missing_template_variable(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match=r"flow\.step\.user has the variable '\{b\}'") as caught:
            bench(llm("{a} {b}"), {"a": 1})
        assert caught.value.code == "missing_variable"

    def test_puts_messages_in_order(self, bench: Bench) -> None:
        examples = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        history = [{"role": "user", "content": "before"}, {"role": "assistant", "content": "then"}]
        step = llm("{x}", system="Be {x}.", few_shot=examples, history=history)
        bench(step, {"x": "kind"})
        messages = bench.trace()["m"].input["messages"]
        assert [(message["role"], message["content"]) for message in messages] == [
            ("system", "Be kind."),
            ("user", "q"),
            ("assistant", "a"),
            ("user", "before"),
            ("assistant", "then"),
            ("user", "kind"),
        ]

    def test_takes_the_history_of_the_conversation(self, bench: Bench) -> None:
        earlier = [{"role": "user", "content": "once"}, {"role": "assistant", "content": "yes"}]
        running = bench.client.start(spec(llm(history=True)), "now", history=earlier)
        running.result()
        messages = bench.client.runs.trace(running.id or "", full=True)[0].input["messages"]
        assert [message["content"] for message in messages] == ["once", "yes", "now"]

    def test_takes_messages_as_they_are(self, bench: Bench) -> None:
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "straight"}]
        assert bench(llm(messages=ref("input")), messages) == "straight"
        assert bench(llm(), messages) == "straight"

    def test_refuses_messages_that_are_not_a_list_of_messages(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="'messages' must be a list of messages"):
            bench(llm(messages=ref("input")), [1])

    def test_passes_options_to_the_model(self, bench: Bench) -> None:
        assert bench(llm("one two three four", options={"max_tokens": 2})) == "one two"

    def test_options_must_be_an_object(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="'options' must be an object"):
            bench(llm("x", options=ref("input")), [1])

    def test_counts_tokens_in_the_trace(self, bench: Bench) -> None:
        bench(llm("one two three"))
        step = bench.trace()["m"]
        assert (step.prompt_tokens, step.completion_tokens) == (3, 3)

    def test_counts_tokens_of_the_run(self, bench: Bench) -> None:
        bench(pipeline(llm("one two three", "a"), llm("one", "b")))
        usage = bench.client.runs.get(bench.run_id).usage
        assert (usage.prompt_tokens, usage.completion_tokens) == (4, 4)

    def test_an_error_of_the_model_names_the_step(self, bench: Bench) -> None:
        with pytest.raises(PorticoError, match=r"Step p\.m: .*I will not") as caught:
            bench(pipeline(llm("fail always")))
        assert caught.value.code == "refused"


class TestFormats:
    def test_json_answers_are_parsed_by_a_schema_of_a_list(self, bench: Bench) -> None:
        schema = {
            "type": "array",
            "items": {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
        }
        assert bench(llm("outline", format={"type": "json", "schema": schema})) == [
            {"title": "Flour"},
            {"title": "Water"},
        ]

    def test_json_in_a_code_fence_is_parsed(self, bench: Bench) -> None:
        assert bench(llm("fenced", format="json")) == {"a": 1}

    def test_a_yaml_answer_is_parsed(self, bench: Bench) -> None:
        assert bench(llm("yaml please", format="yaml")) == {"a": 1, "b": ["x", "y"]}

    def test_a_regular_expression_returns_its_chosen_group(self, bench: Bench) -> None:
        step = llm("price", format={"type": "regex", "pattern": r"(\d+) cents", "group": 1})
        assert bench(step) == "7"

    def test_the_last_line_of_an_answer_is_returned(self, bench: Bench) -> None:
        assert bench(llm("lines", format="last")) == "third"

    def test_asks_the_model_again_after_an_answer_in_the_wrong_format(self, bench: Bench) -> None:
        assert bench(llm("wrong first", format="json")) == {"a": 2}

    def test_fails_after_the_allowed_number_of_attempts(self, bench: Bench) -> None:
        with pytest.raises(
            InvalidRequest, match="does not have the required format: it contains no JSON"
        ) as caught:
            bench(llm("never right", format={"type": "json", "attempts": 1}))
        assert caught.value.code == "format_failed"

    def test_a_regular_expression_without_a_match_is_an_error(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="nothing in the answer matches"):
            bench(llm("price", format={"type": "regex", "pattern": "dollars", "attempts": 1}))

    def test_a_regular_expression_with_catastrophic_backtracking_is_stopped(self, bench: Bench) -> None:
        step = llm("a" * 40, format={"type": "regex", "pattern": "(a+)+$x", "attempts": 1})
        with pytest.raises(PorticoError):
            bench(step)


class TestStreaming:
    def texts(self, bench: Bench, step: Any, value: Any = None) -> str:
        return "".join(bench.client.start(spec(step), value))

    def test_only_the_last_model_of_a_pipeline_is_streamed(self, bench: Bench) -> None:
        assert self.texts(bench, pipeline(llm("first", "a"), llm("second", "b"))) == "second"

    def test_a_step_marked_with_stream_is_streamed(self, bench: Bench) -> None:
        step = pipeline(llm("first", "a", stream=True), llm("second", "b"))
        assert self.texts(bench, step) == "first"

    def test_a_step_with_stream_false_is_not_streamed(self, bench: Bench) -> None:
        assert self.texts(bench, pipeline(llm("second", "b", stream=False))) == ""

    def test_an_answer_with_a_format_is_not_streamed(self, bench: Bench) -> None:
        assert self.texts(bench, llm("fenced", format="json")) == ""

    def test_emit_streams_its_text_and_passes_its_input_on(self, bench: Bench) -> None:
        step = pipeline({"op": "emit", "text": "at {x}"}, code("lambda v: v['x']"))
        running = bench.client.start(spec(step), {"x": 1})
        assert ("".join(running), running.result()) == ("at 1", 1)

    def test_a_subflow_is_streamed_only_as_the_last_step(self, bench: Bench) -> None:
        bench.client.apps.deploy("speaker", {"portico_flow": 1, "step": llm("inner words")})
        sub = {"op": "subflow", "name": "s", "app": "speaker"}
        assert self.texts(bench, pipeline(sub)) == "inner words"
        assert self.texts(bench, pipeline(sub, code("lambda x: 'done'"))) == ""

    def test_sends_events_when_steps_start_and_finish(self, bench: Bench) -> None:
        events = list(bench.client.start(spec(pipeline(code("lambda x: 1", "a")))).events())
        assert [
            (type(event), getattr(event, "path", ""))
            for event in events
            if isinstance(event, StepStarted | StepFinished)
        ] == [
            (StepStarted, "p"),
            (StepStarted, "p.a"),
            (StepFinished, "p.a"),
            (StepFinished, "p"),
        ]

    def test_sends_an_event_with_the_token_usage(self, bench: Bench) -> None:
        events = list(bench.client.start(spec(llm("one two"))).events())
        assert [event.prompt_tokens for event in events if isinstance(event, Usage)] == [2]


INTENTS = {
    "bread": {"description": "baking bread", "examples": ["how hot is the oven for bread"]},
    "ports": {"description": "network ports", "examples": ["which port does the daemon use"]},
}


class TestIntent:
    def test_an_intent_is_chosen_by_embeddings_alone(self, bench: Bench) -> None:
        step = {"op": "intent", "intents": INTENTS, "embedding": "fake-embedding"}
        assert bench(step, "which port is it") == "ports"
        assert bench(step, "how hot for bread") == "bread"

    def test_an_intent_is_chosen_by_a_model_with_constrained_output(self, bench: Bench) -> None:
        assert bench({"op": "intent", "model": "clerk", "intents": INTENTS}, "hello") == "bread"

    def test_a_switch_selects_its_case_by_the_chosen_intent(self, bench: Bench) -> None:
        step = pipeline(
            {
                "op": "switch",
                "on": ref("steps.kind"),
                "cases": [{"equals": "ports", "step": code("lambda x: 7419")}],
                "default": code("lambda x: 'no'"),
            }
        )
        step["steps"].insert(
            0, {"op": "intent", "name": "kind", "intents": INTENTS, "embedding": "fake-embedding"}
        )
        assert bench(step, "which port") == 7419


class TestKnowledge:
    def test_embeds_a_text_and_a_list(self, bench: Bench) -> None:
        vector = bench({"op": "embed", "model": "fake-embedding"}, "x")
        vectors = bench({"op": "embed", "model": "fake-embedding"}, ["x", "y"])
        assert (len(vector), vector) == (16, vectors[0])
        assert bench({"op": "embed", "model": "fake-embedding"}, []) == []

    def test_retrieves_passages_in_rank_order(self, bench: Bench) -> None:
        passages = bench(
            {"op": "retrieve", "store": "handbook", "top_k": 2}, "which port does the daemon listen on"
        )
        assert passages[0]["filename"] == "port.md"
        assert [passage["rank"] for passage in passages] == list(range(1, len(passages) + 1))

    def test_reranks_passages_for_the_input(self, bench: Bench) -> None:
        step = pipeline(
            {"op": "retrieve", "store": "handbook", "top_k": 2, "query": "bread port daemon"},
            {"op": "rerank", "model": "ranker", "query": ref("input"), "top_k": 1},
        )
        assert [passage["filename"] for passage in bench(step, "bread baked at degrees")] == ["bread.md"]

    def test_reranks_texts(self, bench: Bench) -> None:
        step = {"op": "rerank", "model": "ranker", "query": "b", "documents": ref("input")}
        assert bench(step, ["a", "b"]) == ["b", "a"]
        assert bench(step, []) == []


class TestTools:
    def test_calls_one_with_arguments(self, bench: Bench) -> None:
        step = {"op": "tool", "name": "c", "tool": "calculator", "arguments": {"expression": ref("input")}}
        assert "7" in str(bench(step, "3 + 4"))

    def test_uses_the_input_object_as_arguments(self, bench: Bench) -> None:
        assert "7" in str(bench({"op": "tool", "tool": "calculator"}, {"expression": "3 + 4"}))

    def test_refuses_arguments_that_are_not_an_object(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="requires an object of arguments"):
            bench({"op": "tool", "tool": "calculator"}, [1])

    def test_a_tool_that_fails_is_an_error_of_the_step(self, bench: Bench) -> None:
        with pytest.raises(PorticoError, match="Step c: ") as caught:
            bench({"op": "tool", "name": "c", "tool": "calculator", "arguments": {"expression": "1/0"}})
        assert caught.value.code in ("tool_failed", "invalid_value")


class TestHttp:
    def test_sends_headers_and_returns_the_response(self, bench: Bench) -> None:
        step = {
            "op": "http",
            "method": "GET",
            "url": f"{bench.outside.url}/echo",
            "headers": {"X-Test": ref("input")},
        }
        assert "'X-Test': 'yes'" in str(bench(step, "yes")).replace('"', "'")

    def test_headers_must_be_an_object(self, bench: Bench) -> None:
        with pytest.raises(InvalidRequest, match="'headers' must be an object"):
            bench({"op": "http", "method": "GET", "url": bench.outside.url, "headers": ref("input")}, [1])


class TestPeople:
    def test_an_approved_step_passes_its_input_on(self, bench: Bench) -> None:
        step = pipeline({"op": "approve", "name": "ok", "message": "Send {x}?"}, code("lambda v: v['x']"))
        running = bench.client.start(spec(step), {"x": 5})
        for event in running.events():
            if isinstance(event, Asked):
                assert (event.message, event.kind) == ("Send 5?", "approval")
                bench.client.questions.answer(event.id, True)
        assert running.result() == 5

    def test_a_refusal_is_an_error(self, bench: Bench) -> None:
        running = bench.client.start(spec({"op": "approve", "name": "ok", "message": "Go?"}))
        question = next(event for event in running.events() if isinstance(event, Asked))
        bench.client.questions.answer(question.id, False, note="Not today")
        with pytest.raises(InvalidRequest, match=r"Step ok: Approval was refused\. Not today") as caught:
            running.result()
        assert caught.value.code == "refused"

    def test_an_approval_without_an_answer_fails_after_its_limit(self, bench: Bench) -> None:
        with pytest.raises(PorticoError, match="Nobody answered 'ok' within"):
            bench({"op": "approve", "name": "ok", "message": "Go?", "limit": 0.1})

    @pytest.mark.slow
    def test_waiting_does_not_count_as_the_flow_s_time(self, bench: Bench) -> None:
        step = {"op": "approve", "name": "ok", "message": "Go?", "limit": 3.2, "on_error": {"value": "late"}}
        assert bench(pipeline(step, code("lambda x: x")), timeout=3) == "late"


class TestClientFunctions:
    def test_a_client_function_runs_in_the_client_during_the_run(self, client: Client) -> None:
        from portico.flow import client as here
        from portico.flow import pipeline as flow

        lock = threading.Lock()  # an object that cannot travel

        def mine(x: int) -> int:
            with lock:
                return x + 1

        assert client.run(flow(here(mine), lambda x: x * 10), 1) == 20

    def test_an_exception_in_a_client_function_is_the_error_of_its_step(self, client: Client) -> None:
        from portico.flow import client as here

        lock = threading.Lock()

        def bad(x: int) -> int:
            with lock:
                raise ValueError("not mine")

        with pytest.raises(InvalidRequest, match="ValueError: not mine") as caught:
            client.run(here(bad), 1)
        assert caught.value.code == "client_function_failed"

    def test_a_client_function_that_nobody_serves_fails_after_its_limit(self, bench: Bench) -> None:
        with pytest.raises(PorticoError, match="Nobody answered 'gone'"):
            bench({"op": "client", "function": "gone", "limit": 0.1})


class TestAsAModel:
    def deploy(self, client: Client, name: str, step: Any, **more: Any) -> None:
        client.apps.deploy(name, {"portico_flow": 1, "step": step, **more})

    def test_the_text_of_the_last_message_is_the_input(self, client: Client) -> None:
        self.deploy(client, "shout", code("lambda t: t.upper()"))
        assert client.chat("quiet", model="shout").read().text == "QUIET"

    def test_streamed_text_of_a_flow_is_not_repeated_at_its_end(self, client: Client) -> None:
        self.deploy(client, "speaks", llm("one two three"))
        pieces = [
            event.text for event in client.chat("x", model="speaks").events() if isinstance(event, Delta)
        ]
        assert "".join(pieces) == "one two three"

    def test_the_text_becomes_the_only_required_property_of_an_object_input(self, client: Client) -> None:
        schema = {
            "type": "object",
            "properties": {
                "topic": {"type": "string"},
                "messages": {"type": "array"},
                "n": {"type": "integer"},
            },
            "required": ["topic"],
        }
        self.deploy(
            client, "topical", code("lambda v: [v['topic'], len(v['messages'])]"), input_schema=schema
        )
        messages = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ]
        assert client.chat(messages, model="topical").read().text.split() == ["[", '"c",', "3", "]"]

    def test_an_input_schema_that_a_message_cannot_satisfy_is_an_error(self, client: Client) -> None:
        schema = {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "required": ["a", "b"],
        }
        self.deploy(client, "twofold", code("lambda v: v"), input_schema=schema)
        with pytest.raises(
            InvalidRequest, match="requires a, b, which a chat message cannot provide"
        ) as caught:
            client.chat("x", model="twofold").read()
        assert caught.value.code == "needs_input"

    def test_earlier_messages_are_the_history(self, client: Client) -> None:
        self.deploy(client, "remembers", code("lambda h: len(h)", args=[ref("history")]))
        messages = [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b"},
            {"role": "user", "content": "c"},
        ]
        assert client.chat(messages, model="remembers").read().text == "2"

    def test_the_input_is_validated_for_both_runs_and_chats(self, client: Client) -> None:
        self.deploy(
            client,
            "strict",
            code("lambda v: v"),
            input_schema={"type": "integer"},
            output_schema={"type": "integer"},
        )
        with pytest.raises(InvalidRequest, match="The input does not match its schema"):
            client.apps.run("strict", "x")
        with pytest.raises(InvalidRequest, match="The input does not match its schema"):
            client.chat("x", model="strict").read()
