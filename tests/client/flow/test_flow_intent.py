"""Intent detection by a model and by similarity, and the step that follows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests import daemon as daemons

from portico import Client, PorticoError
from portico.flow import code, emit, flow, intent, llm, pipeline, switch

CONFIGURATION = """
models:
  - {name: echo, source: "fake://", aliases: [default]}
  - name: judge
    source: "fake://"
    parameters:
      script:
        - {match: "invoice", content: '{"intent": "billing"}'}
        - {match: "pump", content: '{"intent": "repair"}'}
        - {match: "odd", content: '{"intent": ["billing"]}'}
        - {match: "weather", content: '{"intent": "forecast"}'}
        - {match: "it", content: '{"intent": "repair"}'}
  - {name: near, source: "fake://", task: embedding, parameters: {dimensions: 64}}
"""

INTENTS = {
    "billing": {"description": "invoices and payment", "examples": ["Where is my invoice?"]},
    "repair": {"description": "something is broken", "examples": ["The pump is broken."]},
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("intents")
    (home / "intents.yaml").write_text(CONFIGURATION)
    with (
        daemons.running(home / "data", "--file", str(home / "intents.yaml")) as running,
        Client(running.url, timeout=60) as connected,
    ):
        yield connected


class TestByModel:
    def test_the_model_selects_one_of_the_given_intents(self, client: Client) -> None:
        assert client.run(intent(INTENTS, model="judge"), "The invoice is wrong.") == "billing"
        assert client.run(intent(["billing", "repair"], model="judge"), "My pump!") == "repair"

    def test_the_model_receives_the_history_and_the_examples(self, client: Client) -> None:
        client.apps.deploy("desk", intent(INTENTS, model="judge", history=True))
        alone = client.chat("What about it?", model="desk").read()
        talk = [
            {"role": "user", "content": "A longer story about the pump."},
            {"role": "assistant", "content": "I see."},
            {"role": "user", "content": "What about it?"},
        ]
        reply = client.chat(talk, model="desk").read()
        assert (alone.text, reply.text) == ("repair", "repair")
        assert reply.usage.prompt_tokens == alone.usage.prompt_tokens + 8
        bare = client.run(intent(["billing", "repair"], model="judge"), "What about it?")
        assert bare == "repair"
        assert alone.usage.prompt_tokens > len(["What", "about", "it?"]) + 8  # the examples are earlier turns

    @pytest.mark.parametrize("text", ["How is the weather?", "an odd answer"])
    def test_anything_else_is_the_default_or_an_error(self, client: Client, text: str) -> None:
        assert client.run(intent(INTENTS, model="judge", default="billing"), text) == "billing"
        with pytest.raises(PorticoError, match="named none of the intents billing, repair") as caught:
            client.run(intent(INTENTS, model="judge"), text)
        assert caught.value.code == "format_failed"

    def test_a_default_that_is_not_an_intent_is_refused(self, client: Client) -> None:
        error = client.check(flow(intent(INTENTS, default="repairs"))).error
        assert error is not None
        assert "Did you mean 'repair'?" in error["message"]


class TestByLikeness:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("Where is the invoice?", "billing"),
            ("My pump is broken again.", "repair"),
            ("payment", "billing"),
        ],
    )
    def test_takes_the_nearest_and_asks_no_model(self, client: Client, text: str, name: str) -> None:
        running = client.start(flow(intent(INTENTS, model="missing", embedding="near"), name="near"), text)
        assert running.result() == name
        [step] = client.runs.trace(running.id or "")
        assert step.completion_tokens == 0

    def test_an_embedding_model_is_needed(self, client: Client) -> None:
        error = client.check(flow(intent(INTENTS, embedding="echo"))).error
        assert error is not None
        assert error["code"] == "wrong_model"


class TestSwitch:
    def test_the_case_gets_the_text_itself(self, client: Client) -> None:
        desk = switch(
            {
                "billing": lambda text: f"bill: {text}",
                "repair": pipeline(llm("echo"), lambda text: f"mend: {text}"),
            },
            on=intent(INTENTS, model="judge"),
        )
        assert client.run(desk, "The invoice is wrong.") == "bill: The invoice is wrong."
        assert client.run(desk, "My pump!") == "mend: My pump!"

    def test_the_names_of_the_cases_are_the_intents(self, client: Client) -> None:
        desk = switch(
            {"billing": llm("echo"), "repair": code("lambda x: 'mend'")}, on=intent(embedding="near")
        )
        assert client.run(desk, "repair please") == "mend"

    def test_an_intent_without_a_case_runs_the_default_step(self, client: Client) -> None:
        desk = switch(
            {"billing": llm("echo")}, on=intent(INTENTS, model="judge"), default=emit("Nobody is here.")
        )
        running = client.start(desk, "My pump!")
        assert "".join(running) == "Nobody is here."

    def test_the_output_of_the_selected_case_is_streamed(self, client: Client) -> None:
        client.apps.deploy(
            "streams", switch({"billing": llm("echo"), "repair": llm("echo")}, on=intent(model="judge"))
        )
        pieces = list(client.chat("one invoice two", model="streams"))
        assert "".join(pieces) == "one invoice two"
        assert len(pieces) > 1
