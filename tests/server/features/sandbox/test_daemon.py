"""The code tools of a real daemon: over HTTP, from the command line, with the files that they create."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import mcp_types as types
import pytest
from mcp import Client as McpClient
from openai import OpenAI
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.sandbox.conftest import ENVIRONMENTS
from tests.server.features.sandbox.processes import family, gone

from portico import Client
from portico.cli.root import run
from portico_server.features.sandbox.environment import Environment

PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()"
KEYS = """
keys:
  - {name: one, key: one-secret-key-of-the-tests, scopes: ["tools:*:call"]}
  - {name: two, key: two-secret-key-of-the-tests, scopes: ["tools:*:call"]}
  - {name: boss, key: boss-secret-key-of-the-tests, scopes: [admin]}
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("home")
    configuration = home / "keys.yaml"
    configuration.write_text(KEYS, encoding="utf-8")
    env = {
        "PORTICO_ENVIRONMENTS": str(ENVIRONMENTS),
        "PORTICO_OFFLINE": "true",
        "PORTICO_REQUIRE_KEY": "true",
    }
    with daemons.running(home / "data", "--file", str(configuration), env=env) as running:
        yield running


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Yield a daemon without keys. The last test in this file kills it."""
    env = {"PORTICO_ENVIRONMENTS": str(ENVIRONMENTS), "PORTICO_OFFLINE": "true"}
    with daemons.running(tmp_path_factory.mktemp("keyless"), env=env) as running:
        yield running


def client(service: Daemon, name: str = "one") -> Client:
    return Client(service.url, f"{name}-secret-key-of-the-tests", timeout=60)


def call(service: Daemon, tool: str, name: str = "one", **arguments: Any) -> Any:
    with client(service, name) as caller:
        return caller.tools.call(tool, arguments)


def test_light_tools_answer_over_http(service: Daemon) -> None:
    assert call(service, "calculator", expression="6 * 7").text == "42"
    done = call(service, "python_light", code="print('hi')\n1 / 0")
    assert done.is_error and done.text.startswith("hi\n")


def test_a_plot_arrives_as_a_file_that_its_caller_alone_may_read(
    service: Daemon, environment: Environment
) -> None:
    done = call(service, "code_interpreter", code=PLOT)
    [figure] = done.artifacts
    assert (figure.name, figure.media_type) == ("figure-1.png", "image/png")
    assert f"Made figure-1.png ({figure.bytes} bytes): {figure.link}" in done.text
    assert done.structured["artifacts"][0]["link"] == figure.link
    headers = {"Authorization": "Bearer one-secret-key-of-the-tests"}
    answer = httpx.get(f"{service.url}{figure.link}", headers=headers)
    assert answer.content.startswith(b"\x89PNG") and len(answer.content) == figure.bytes
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-security-policy"] == "sandbox"
    with client(service, "two") as stranger:
        assert figure.id not in [item.id for item in stranger.artifacts.list()]
    stranger_headers = {"Authorization": "Bearer two-secret-key-of-the-tests"}
    assert httpx.get(f"{service.url}{figure.link}", headers=stranger_headers).status_code == 404


def test_an_html_artifact_is_served_only_as_a_download(service: Daemon, environment: Environment) -> None:
    code = "open('x.html', 'w').write('<script>alert(1)</script>');"
    [page] = call(service, "code_interpreter", code=code).artifacts
    headers = {"Authorization": "Bearer one-secret-key-of-the-tests"}
    answer = httpx.get(f"{service.url}{page.link}", headers=headers)
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_artifacts_are_listed_passed_to_later_calls_and_removed(
    service: Daemon, environment: Environment
) -> None:
    with client(service) as sandbox_client:
        [artifact] = sandbox_client.tools.call(
            "code_interpreter", {"code": "open('t.txt', 'w').write('abc');"}
        ).artifacts
        artifacts = sandbox_client.artifacts.list()
        assert artifacts[0].id == artifact.id and artifacts[0].run.startswith("run_")
        assert sandbox_client.artifacts.list(run=artifacts[0].run) == [artifacts[0]]
        assert sandbox_client.artifacts.get(artifact.id).bytes == 3
        files = [
            {"name": "back.txt", "artifact": artifact.id},
            {"name": "more.txt", "text": "def"},
            {"name": "bytes.bin", "base64": base64.b64encode(b"ghi").decode()},
        ]
        code = "print(*(open(n).read() for n in ('back.txt', 'more.txt', 'bytes.bin')))"
        assert (
            sandbox_client.tools.call("code_interpreter", {"code": code, "files": files}).text
            == "abc def ghi"
        )
        sandbox_client.artifacts.remove(artifact.id)
        assert artifact.id not in [item.id for item in sandbox_client.artifacts.list()]


@pytest.mark.parametrize(
    ("files", "param"),
    [
        ([{"name": "../x", "text": "a"}], "arguments.files[0].name"),
        ([{"name": ".bashrc", "text": "a"}], "arguments.files[0].name"),
        ([{"name": "x"}], "arguments.files[0]"),
        ([{"name": "x", "text": "a", "base64": "YQ=="}], "arguments.files[0]"),
        ([{"name": "x", "base64": "!"}], "arguments.files[0].base64"),
        ([{"name": "x", "artifact": "art_none"}], "artifact_id"),
    ],
)
def test_invalid_files_of_a_call_are_refused_with_their_field(
    service: Daemon, environment: Environment, files: list[dict[str, str]], param: str
) -> None:
    headers = {"Authorization": "Bearer one-secret-key-of-the-tests"}
    body = {"arguments": {"code": "1", "files": files}}
    answer = httpx.post(f"{service.url}/api/tools/code_interpreter/call", json=body, headers=headers)
    assert answer.status_code in (400, 404)
    assert answer.json()["error"]["param"] == param


def test_sessions_belong_to_their_caller(service: Daemon, environment: Environment) -> None:
    call(service, "code_interpreter", "one", code="x = 'mine'", session="s")
    assert "NameError" in call(service, "code_interpreter", "two", code="x", session="s").text
    assert call(service, "code_interpreter", "one", code="x", session="s").text == "'mine'"


def test_a_cell_reaches_nothing_of_the_daemon(service: Daemon, environment: Environment) -> None:
    code = f"""
import os, urllib.request
try:
    print("ESCAPED", urllib.request.urlopen("{service.url}/health", timeout=2).read())
except OSError as error:
    print("refused", error)
print(os.path.exists("{service.home}"), [name for name in os.environ if name.startswith("PORTICO")])
"""
    done = call(service, "code_interpreter", code=code)
    assert "refused" in done.text and "ESCAPED" not in done.text
    assert done.text.endswith("False []")


@pytest.mark.slow
def test_the_command_line_saves_artifacts_without_overwriting_files(
    service: Daemon, environment: Environment, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        *("--url", service.url, "--key", "one-secret-key-of-the-tests"),
        *("tools", "call", "code_interpreter", f"code={PLOT}", "--out", str(tmp_path / "out")),
    ]
    for _ in range(2):
        assert run(command) == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["figure-1-2.png", "figure-1.png"]
    assert "Made figure-1.png" in capsys.readouterr().out
    assert run([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["artifacts"][0]["name"] == "figure-1.png"


async def test_a_plot_arrives_over_mcp(keyless: Daemon, environment: Environment) -> None:
    async with McpClient(f"{keyless.url}/mcp") as assistant:
        code = PLOT + "\nopen('t.csv', 'w').write('a,b');"
        result = await assistant.call_tool("code_interpreter", {"code": code})
    assert result.structured_content["artifacts"][0]["name"] == "figure-1.png"
    _text, picture, link = result.content
    assert isinstance(picture, types.ImageContent) and picture.mime_type == "image/png"
    assert base64.b64decode(picture.data).startswith(b"\x89PNG")
    assert isinstance(link, types.ResourceLink) and link.name == "t.csv"


@pytest.mark.slow
async def test_a_plot_of_an_agent_arrives_over_openai_and_mcp(
    keyless: Daemon, environment: Environment
) -> None:
    draws = {"tool_calls": [{"name": "code_interpreter", "arguments": {"code": PLOT}}], "times": 1}
    script = [draws, {"content": "Done.", "times": 1}] * 3
    model = {"name": "m", "source": "fake://", "parameters": {"script": script}}
    agent = {"portico_agent": 1, "model": "m", "tools": ["code_interpreter"]}
    async with httpx.AsyncClient(base_url=keyless.url, timeout=60) as http:
        app = {"name": "artist", "kind": "agent", "spec": agent}
        for path, body in (("/api/deployments", model), ("/api/apps", app)):
            (await http.post(path, json=body)).raise_for_status()
    chat_body: Any = {"model": "artist", "messages": [{"role": "user", "content": "A plot, please."}]}
    with OpenAI(base_url=f"{keyless.url}/v1", api_key="none", max_retries=0) as openai:
        full_message = openai.chat.completions.create(**chat_body).choices[0].message
        *_, last = openai.chat.completions.create(**chat_body, stream=True)
        for message in (full_message, last.choices[0].delta):
            (note,) = message.to_dict()["annotations"]  # type: ignore[misc]
            assert note["type"] == "file_path" and note["file_path"]["filename"] == "figure-1.png"
            file = note["file_path"]["file_id"]
            assert openai.files.retrieve(file).purpose == "assistants_output"
            assert openai.files.content(file).read().startswith(b"\x89PNG")
    async with McpClient(f"{keyless.url}/mcp") as assistant:
        _answer, picture = (await assistant.call_tool("artist", {"question": "A plot, please."})).content
    assert isinstance(picture, types.ImageContent)
    assert base64.b64decode(picture.data).startswith(b"\x89PNG")


@pytest.mark.process
def test_kernels_end_with_the_daemon(keyless: Daemon, environment: Environment) -> None:
    with Client(keyless.url, timeout=60) as caller:
        caller.tools.call("code_interpreter", {"code": "x = 1", "session": "s"})
        caller.tools.call("python_light", {"code": "1"})
    children = family(keyless.process.pid)
    assert len(children) > 4
    keyless.process.kill()
    keyless.process.wait()
    assert gone(children)
