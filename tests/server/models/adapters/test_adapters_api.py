"""Adapters and tokens over HTTP, with the SDK and on the command line, with scripted models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.models.adapters import peft_files

from portico import Client
from portico import errors as sdk
from portico.cli.root import run

NAME = "ft:echo:portico:polite:0192f6"

CONFIGURATION = """
models:
  - {{name: echo, source: "fake://", aliases: [default], adapters: [{{name: fixed, path: fixed.yaml, scale: 0.5}}]}}
  - {{name: far, source: "http://127.0.0.1:9/v1#x"}}
keys:
  - {{name: admin, key: {admin}, scopes: [admin]}}
  - {{name: chatter, key: {chatter}, scopes: [chat]}}
  - {{name: reader, key: {reader}, scopes: ["models:read"]}}
"""

KEYS = {name: f"pk-{name}-0123456789abcdef" for name in ("admin", "chatter", "reader")}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scripts")
    tool = "tool_calls: [{name: greet, arguments: {who: you}}]"
    (folder / "fixed.yaml").write_text("- {content: fixed}\n")
    (folder / "polite.yaml").write_text(f"- {{match: tool, {tool}}}\n- {{content: How do you do}}\n")
    (folder / "portico.yaml").write_text(CONFIGURATION.format(**KEYS))
    return folder


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, scripts: Path) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home") / "data"
    with daemons.running(home, "--file", str(scripts / "portico.yaml")) as running:
        yield running


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    with Client(daemon.url, KEYS["admin"]) as api_client:
        yield api_client


@pytest.fixture
def polite(client: Client, scripts: Path) -> Iterator[str]:
    client.adapters.add("default", scripts / "polite.yaml", NAME, scale=0.5)
    yield NAME
    client.adapters.remove(NAME)


def http(daemon: Daemon, key: str = "admin") -> httpx.Client:
    return httpx.Client(base_url=daemon.url, headers={"Authorization": f"Bearer {KEYS[key]}"})


def test_an_adapter_is_a_model_to_every_openai_client(daemon: Daemon, client: Client, polite: str) -> None:
    with openai.OpenAI(base_url=f"{daemon.url}/v1", api_key=KEYS["chatter"]) as theirs:
        models = {model.id: model for model in theirs.models.list()}
        assert models[polite].model_extra is not None
        assert models[polite].model_extra["labels"].items() >= {"base": "echo", "scale": 0.5}.items()
        assert theirs.models.retrieve(polite).id == polite
        message = {"role": "user", "content": "hi"}
        completion = theirs.chat.completions.create(model=polite, messages=[message])  # type: ignore[list-item]
        assert completion.choices[0].message.content == "How do you do" and completion.model == polite
        stream = theirs.chat.completions.create(model=polite, messages=[message], stream=True)  # type: ignore[call-overload]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "How do you do"
        assert theirs.completions.create(model=polite, prompt="hi").choices[0].text == "How do you do"
        tool_message = {"role": "user", "content": "use the tool"}
        called = theirs.chat.completions.create(model=polite, messages=[tool_message])  # type: ignore[list-item]
        assert called.choices[0].message.tool_calls is not None
    assert polite in {run.name for run in client.runs.list()}


def test_an_alias_may_point_at_an_adapter(client: Client, polite: str) -> None:
    client.models.alias("nice", polite)
    assert client.chat("hi", "nice").read().text == "How do you do"
    assert client.adapters.get("nice").name == polite


def test_adapters_are_created_changed_and_deleted_over_the_http_api(daemon: Daemon, scripts: Path) -> None:
    with http(daemon) as admin:
        adapter_request = {"base": "echo", "path": str(scripts / "polite.yaml"), "name": NAME}
        response = admin.post("/api/adapters", json=adapter_request)
        assert (
            response.status_code == 200
            and response.json()["base"] == "echo"
            and response.json()["scale"] == 1
        )
        at = "/api/adapters/ft%3Aecho%3Aportico%3Apolite%3A0192f6"
        assert admin.get(at).json()["name"] == NAME
        assert admin.patch(at, json={"scale": 0.25}).json()["scale"] == 0.25
        names = [
            adapter["name"]
            for adapter in admin.get("/api/adapters", params={"base": "default"}).json()["data"]
        ]
        assert names == ["fixed", NAME]
        assert admin.post("/api/adapters", json=adapter_request).status_code == 409
        with http(daemon, "reader") as reader:
            assert reader.get(at).status_code == 200
            assert reader.delete(at).status_code == 403
        with http(daemon, "chatter") as chatter:
            assert chatter.get("/api/adapters").status_code == 403
        assert admin.delete(at).json() == {"name": NAME, "deleted": True}
        assert admin.get(at).status_code == 404


@pytest.mark.parametrize(
    ("wish", "status", "param"),
    [
        ({"path": "polite.yaml"}, 400, "path"),
        ({"path": "/nowhere/at/all"}, 404, "path"),
        ({"base": "nothing"}, 404, "base"),
        ({"base": "far"}, 400, "base"),
        ({"scale": 99}, 400, "scale"),
        ({"name": "a b"}, 400, "name"),
        ({"name": "echo"}, 409, "name"),
        ({"scale": "much"}, 400, "scale"),
    ],
)
def test_invalid_adapters_are_refused_by_field(
    daemon: Daemon, scripts: Path, wish: dict[str, object], status: int, param: str
) -> None:
    adapter_request = {"base": "echo", "path": str(scripts / "polite.yaml"), "name": "x", **wish}
    with http(daemon) as admin:
        response = admin.post("/api/adapters", json=adapter_request)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param)


def test_a_pickle_is_never_opened(daemon: Daemon, tmp_path: Path) -> None:
    folder = peft_files.smollm(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with http(daemon) as admin:
        for path in (folder, folder / "adapter_model.bin"):
            response = admin.post("/api/adapters", json={"base": "echo", "path": str(path), "name": "x"})
            assert (
                response.status_code == 400
                and "pickle, which can run code" in response.json()["error"]["message"]
            )


def test_configured_adapters_answer_but_cannot_be_removed(client: Client) -> None:
    assert client.chat("hi", "fixed").read().text == "fixed"
    adapter = client.adapters.get("fixed")
    assert adapter.configured and adapter.scale == 0.5
    with pytest.raises(sdk.Conflict):
        client.adapters.remove("fixed")


def test_the_adapters_command_adds_shows_scales_lists_and_removes(
    daemon: Daemon, scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = ["--url", daemon.url, "--key", KEYS["admin"]]

    def told(*arguments: str) -> str:
        assert run([*ours, *arguments]) == 0
        return capsys.readouterr().out

    path = str(scripts / "polite.yaml")
    assert "polite" in told("adapters", "add", "echo", path, "--name", "polite")
    assert json.loads(told("adapters", "show", "polite", "--json"))["base"] == "echo"
    assert json.loads(told("adapters", "scale", "polite", "0.5", "--json"))["scale"] == 0.5
    assert "0.5" in told("adapters", "list", "echo")
    assert "Would remove 'polite'" in told("adapters", "remove", "polite", "--dry-run")
    assert "Removed 'polite'" in told("adapters", "remove", "polite", "--yes")
    assert [adapter["name"] for adapter in json.loads(told("adapters", "list", "--json"))["data"]] == [
        "fixed"
    ]
    assert run([*ours, "adapters", "show", "polite"]) == 1


# --- tokens -------------------------------------------------------------------------------------------------


def test_texts_are_tokenized_and_detokenized(client: Client) -> None:
    tokenization = client.tokenize("to be or not", "echo", texts=True)
    assert (
        tokenization.count == 4 == len(tokenization.tokens)
        and "".join(tokenization.texts or ()) == "to be or not"
    )
    assert client.detokenize(tokenization.tokens, "echo") == "to be or not"
    assert client.tokenize([{"role": "user", "content": "two words"}]).texts is None


def test_tokens_of_an_adapter_are_those_of_its_base(client: Client) -> None:
    assert client.tokenize("to be", "fixed").tokens == client.tokenize("to be", "echo").tokens


def test_the_tokenize_response_has_vllms_fields(daemon: Daemon) -> None:
    with http(daemon, "chatter") as chatter:
        tokenization = chatter.post("/tokenize", json={"model": "echo", "prompt": "a b"}).json()
        assert (
            tokenization.keys() == {"count", "max_model_len", "tokens", "token_strs"}
            and tokenization["count"] == 2
        )
    with http(daemon, "reader") as reader:
        assert reader.post("/tokenize", json={"model": "echo", "prompt": "a"}).status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "status", "param"),
    [
        ("tokenize", {"model": "echo"}, 400, "prompt"),
        ("tokenize", {"model": "echo", "prompt": "x", "messages": []}, 400, "prompt"),
        ("tokenize", {"model": "echo", "messages": [{"role": "nobody"}]}, 400, "messages[0].role"),
        ("tokenize", {"model": "nobody", "prompt": "x"}, 404, "model"),
        ("tokenize", {"model": "far", "prompt": "x"}, 400, "model"),
        ("detokenize", {"model": "echo", "tokens": [-1]}, 400, "tokens[0]"),
        ("detokenize", {"model": "echo", "tokens": [5]}, 400, "tokens"),
    ],
)
def test_invalid_tokenize_requests_are_refused_by_field(
    daemon: Daemon, path: str, body: dict[str, object], status: int, param: str
) -> None:
    with http(daemon) as admin:
        response = admin.post(f"/{path}", json=body)
    assert (response.status_code, response.json()["error"]["param"]) == (status, param), response.text


def test_the_tokens_command_prints_and_counts_tokens(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--url", daemon.url, "--key", KEYS["admin"], "tokens", "to be", "--model", "echo"]) == 0
    assert capsys.readouterr().out == '"to" " be"\n2 tokens\n'
