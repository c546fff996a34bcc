"""The engines `vllm` and `lmdeploy`: command lines, and the start and end of an external process."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.server.features.gpu_engines.external.interpreter import interpreter, model
from tests.server.models.model_files import gguf

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import EngineFailed, InvalidRequest, PorticoError, Unavailable
from portico_server.features.gpu_engines.external import server
from portico_server.features.gpu_engines.vllm.engine import Vllm
from portico_server.models.engines.openai_client.client import requires_tool_call
from portico_server.models.environments.recipe import RECIPES
from portico_server.models.exit_reason import exit_reason
from portico_server.models.server_process import ServerProcess
from portico_server.models.spec import ModelSpec

ENGINES = ["vllm", "lmdeploy"]
HI = {"messages": user("hi")}


def spec(engine: str, folder: Path, story: str = "", **parameters: Any) -> ModelSpec:
    return ModelSpec(
        "m",
        model(folder),
        engine=engine,
        parameters={"python": interpreter(folder, story), **parameters},
    )


def child_of(models: ModelFixture) -> ServerProcess:
    running = models.models.deployments["m"].running
    assert running is not None and running.process is not None
    return running.process


async def gone(*pids: int) -> None:
    """Wait until these processes have ended; the system ends grandchildren in its own time."""
    async with asyncio.timeout(60):
        while any(map(_works, pids)):
            await asyncio.to_thread(psutil.wait_procs, [], 0.02)


def _works(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize(
    ("choice", "must"),
    [
        (None, False),
        ("auto", False),
        ("none", False),
        ("required", True),
        ({"type": "function", "function": {"name": "f"}}, True),
    ],
)
def test_tool_choices_that_require_a_call_are_recognised(choice: Any, must: bool) -> None:
    assert requires_tool_call({"tools": [{"type": "function"}], "tool_choice": choice}) == must
    assert not requires_tool_call({"tool_choice": choice})


# --- command lines ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, []),
        ({"context_length": 4096}, ["--max-model-len", "4096"]),
        (
            {"memory_share": 0.5, "tensor_parallel": 2},
            ["--tensor-parallel-size", "2", "--gpu-memory-utilization", "0.5"],
        ),
        ({"eager": True, "trust_remote_code": False}, ["--enforce-eager"]),
        (
            {"tool_call_parser": "hermes"},
            ["--enable-auto-tool-choice", "--tool-call-parser", "hermes"],
        ),
        ({"kv_offload_gb": 8}, ["--kv-offloading-size", "8"]),
        ({"arguments": ["--max-logprobs", "5"]}, ["--max-logprobs", "5"]),
    ],
)
def test_parameters_become_vllms_command_line_options(parameters: dict[str, Any], options: list[str]) -> None:
    program = Vllm().program(ModelSpec("m", "/models/x", parameters=parameters), Path("/models/x"))
    assert program.arguments == [
        *(
            "-P",
            "-m",
            "vllm.entrypoints.openai.api_server",
            "--model",
            "/models/x",
            "--served-model-name",
            "m",
        ),
        *("--host", "{host}", "--port", "{port}", "--enable-prompt-tokens-details"),
        *options,
    ]
    assert program.environment["VLLM_API_KEY"] == "{key}", "a command line is seen by every user"


def test_vllm_embedding_models_use_the_pooling_runner() -> None:
    program = Vllm().program(ModelSpec("m", "/models/x", task="embedding"), Path("/models/x"))
    assert list(program.arguments)[-2:] == ["--runner", "pooling"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"contxt_length": 1}, "parameters.contxt_length"),
        ({"context_length": 0}, "parameters.context_length"),
        ({"context_length": True}, "parameters.context_length"),
        ({"memory_share": 1.5}, "parameters.memory_share"),
        ({"dtype": "--trust-remote-code"}, "parameters.dtype"),
        ({"trust_remote_code": "yes"}, "parameters.trust_remote_code"),
        ({"arguments": "--x"}, "parameters.arguments"),
        ({"fallback": [5]}, "parameters.fallback"),
    ],
)
async def test_invalid_engine_parameters_are_refused_by_name(
    models: ModelFixture, engine: str, parameters: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        await models.models.add(ModelSpec("m", "/models/x", engine=engine, parameters=parameters))
    assert error_info.value.param == param


# --- start and end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
async def test_an_engine_starts_answers_and_leaves_no_process_after_unload(
    models: ModelFixture, tmp_path: Path, engine: str
) -> None:
    await models.models.add(spec(engine, tmp_path, context_length=700, memory_share=0.3))
    answer = await models.ask("m", {**HI, "max_completion_tokens": 3})
    assert answer["choices"][0]["message"]["content"]
    info = models.models.get("m")
    assert (info.state, info.engine, info.context_length) == ("ready", engine, 700)
    assert info.pid is not None and psutil.Process(info.pid).ppid() != os.getpid()
    family = [info.pid, psutil.Process(info.pid).ppid()]
    assert any("--" in line for line in models.models.logs("m", 100)), "its own words are in the log"
    await models.models.unload("m")
    await gone(*family)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("gpu", [True, False])
async def test_a_missing_engine_environment_is_reported_with_the_way_to_install(
    models: ModelFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, gpu: bool
) -> None:
    reason = "" if gpu else "there is no NVIDIA GPU"
    suited = replace(RECIPES[engine], unsuited=lambda: reason)
    monkeypatch.setattr(server, "RECIPES", {engine: suited})
    await models.models.add(ModelSpec("m", model(tmp_path), engine=engine))
    with pytest.raises(Unavailable) as error_info:
        await models.relay("m", HI)
    assert (f"portico engines install {engine}" in error_info.value.message) == gpu
    if not gpu:
        assert "no NVIDIA GPU" in error_info.value.message and "--python" in error_info.value.message


async def test_a_build_of_the_users_own_is_found_on_the_path(
    models: ModelFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    script = programs / "vllm"
    script.write_text(f"#!{interpreter(tmp_path)}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    await models.models.add(ModelSpec("m", model(tmp_path), engine="vllm"))
    assert (await models.ask("m", HI))["choices"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "arguments",
    [
        ["--host", "0.0.0.0"],
        ["--port=8000"],
        ["--max-logprobs", "5", "--config", "/etc/passwd"],
        ["--tool-parser-plugin", "/tmp/evil.py"],
        ["--middleware", "evil.Layer"],
        ["--allowed-local-media-path", "/"],
        ["--download-dir", "/etc"],
    ],
)
async def test_arguments_that_open_a_port_read_files_or_load_code_are_refused(
    models: ModelFixture, engine: str, arguments: list[str]
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        await models.models.add(
            ModelSpec("m", "/models/x", engine=engine, parameters={"arguments": arguments})
        )
    assert (error_info.value.code, error_info.value.param) == ("argument_refused", "parameters.arguments")


@pytest.mark.parametrize(
    ("engine", "parameters"),
    [
        ("vllm", {"chat_template": "/etc/shadow"}),
        ("lmdeploy", {"chat_template": "/etc/shadow"}),
        ("lmdeploy", {"chat_template": "/models/x.jinja"}),
    ],
)
async def test_a_chat_template_outside_the_allowed_values_is_refused(
    models: ModelFixture, engine: str, parameters: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        await models.models.add(ModelSpec("m", "/models/x", engine=engine, parameters=parameters))
    assert error_info.value.param == "parameters.chat_template"


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("Qwen3ForCausalLM", "chat"),
        ("WhisperForConditionalGeneration", "transcription"),
        ("BertModel", "embedding"),
    ],
)
async def test_the_configuration_of_a_model_decides_its_task_before_its_name(
    models: ModelFixture, tmp_path: Path, architecture: str, task: str
) -> None:
    folder = tmp_path / "embed-tutor"
    folder.mkdir()
    parameters = {"python": interpreter(tmp_path)}
    await models.models.add(
        ModelSpec("m", model(folder, architectures=[architecture]), engine="vllm", parameters=parameters)
    )
    assert models.models.get("m").task == task


@pytest.mark.parametrize("value", [-5, 0, True, 10**30, "many", None, [4096], 1e9])
async def test_a_configuration_that_lies_about_the_context_is_not_believed(
    models: ModelFixture, tmp_path: Path, value: object
) -> None:
    source = model(tmp_path, max_position_embeddings=value, architectures={"a": 1})
    await models.models.add(
        ModelSpec("m", source, engine="vllm", parameters={"python": interpreter(tmp_path)})
    )
    assert models.models.get("m").context_length is None


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"max_position_embeddings": 1' + "0" * 5_000 + "}",
        "[]",
        "7",
        "\xff",
    ],
)
async def test_a_configuration_that_cannot_be_read_does_not_keep_models_from_being_listed(
    models: ModelFixture, tmp_path: Path, text: str
) -> None:
    source = model(tmp_path)
    (Path(source) / "config.json").write_text(text, encoding="latin-1")
    await models.models.add(
        ModelSpec("m", source, engine="vllm", parameters={"python": interpreter(tmp_path)})
    )
    assert [info.context_length for info in models.models.list() if info.name == "m"] == [None]


async def test_a_single_file_is_refused_where_vllm_needs_a_folder(
    models: ModelFixture, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(gguf())
    await models.models.add(ModelSpec("m", str(path), engine="vllm"))
    with pytest.raises(PorticoError, match="requires a folder with safetensors"):
        await models.relay("m", HI)


@pytest.mark.parametrize("python", ["/nowhere/python", "python3", "/bin/sh"])
async def test_a_missing_python_interpreter_is_refused(
    models: ModelFixture, tmp_path: Path, python: str
) -> None:
    await models.models.add(ModelSpec("m", model(tmp_path), engine="vllm", parameters={"python": python}))
    with pytest.raises(PorticoError, match="absolute path of an interpreter"):
        await models.relay("m", HI)


async def test_an_engine_that_exits_while_loading_is_quoted_with_its_reason(
    models: ModelFixture, tmp_path: Path
) -> None:
    await models.models.add(spec("vllm", tmp_path, "refuse"))
    with pytest.raises(PorticoError) as error_info:
        await models.relay("m", HI)
    words = error_info.value.message
    assert "status 1" in words and "last words: ValueError: Available memory" in words
    assert "'--gpu-memory-utilization' is the parameter 'memory_share'" in words


async def test_an_engine_that_never_becomes_ready_is_stopped(tmp_path: Path) -> None:
    async with model_fixture(tmp_path, load_timeout=2.0) as daemon:
        await daemon.models.add(spec("vllm", tmp_path, "deaf"))
        with pytest.raises(PorticoError, match="not ready within 2 s"):
            await daemon.relay("m", HI)
        assert daemon.models.get("m").pid is None


@pytest.mark.process
@pytest.mark.parametrize("end", ["stop", "kill engine", "kill warden"])
async def test_child_processes_of_an_engine_end_with_it(
    models: ModelFixture, tmp_path: Path, end: str
) -> None:
    await models.models.add(spec("vllm", tmp_path, "orphan"))
    await models.models.load("m")
    child = child_of(models)
    warden = psutil.Process(child.pid).ppid()
    [orphan] = [
        int(orphan_match.group(1))
        for line in child.lines(100)
        if (orphan_match := re.fullmatch(r"orphan (\d+)", line))
    ]
    match end:
        case "stop":
            await models.models.unload("m")
        case "kill engine":
            os.kill(child.pid, signal.SIGKILL)
            await child.wait()
        case "kill warden":
            os.kill(warden, signal.SIGKILL)
            await child.wait()
    await gone(child.pid, warden, orphan)
    assert (await models.ask("m", HI))["choices"], "the next call starts it again"


async def test_an_engines_refusals_become_openai_errors(models: ModelFixture, tmp_path: Path) -> None:
    await models.models.add(spec("vllm", tmp_path, context_length=20))
    with pytest.raises(PorticoError) as error_info:
        await models.relay("m", {"messages": user("word " * 100)})
    error = error_info.value
    assert (error.status, error.type, error.code) == (400, "invalid_request_error", "context_length_exceeded")


@pytest.mark.parametrize(("story", "code"), [("lost", "engine_lost"), ("full", "engine_failed")])
async def test_lmdeploy_is_restarted_after_an_unexplained_error_only_if_unhealthy(
    models: ModelFixture, tmp_path: Path, story: str, code: str
) -> None:
    await models.models.add(spec("lmdeploy", tmp_path, story))
    await models.ask("m", {"messages": user("hello")})
    first = models.models.get("m").pid
    with pytest.raises(EngineFailed, match="internal server error") as error_info:
        await models.relay("m", {**HI, "stream": True})
    assert error_info.value.code == code
    await models.ask("m", {"messages": user("hello")})
    assert (models.models.get("m").pid == first) == (story == "full")


async def test_stop_texts_work_and_fields_lmdeploy_would_ignore_are_refused(
    models: ModelFixture, tmp_path: Path
) -> None:
    long = "one two three four five six" + " and" * 2000
    story = [{"match": "tell", "content": long, "interval": 0.01}]
    parameters = {"python": interpreter(tmp_path, script=story)}
    await models.models.add(ModelSpec("m", model(tmp_path), engine="lmdeploy", parameters=parameters))
    tell = {"messages": user("tell"), "stop": ["e four", "seven"]}
    answer = await models.ask("m", tell)
    assert answer["choices"][0]["message"]["content"] == "one two thre"
    assert 3 < answer["usage"]["completion_tokens"] < 2000, "it was told to end, and told what it counted"
    streamed = await models.stream("m", {"prompt": ["tell", "this"], "stop": "three"}, "completions")
    assert [streamed.text(0), streamed.text(1)] == ["one two ", "this"] and streamed.done
    for body, param in (
        ({"presence_penalty": 1}, "presence_penalty"),
        ({"logit_bias": {"1": 2}}, "logit_bias"),
    ):
        with pytest.raises(InvalidRequest) as error_info:
            await models.relay("m", {**HI, **body})
        assert error_info.value.param == param


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            [
                "ValueError: no memory",
                "RuntimeError: Engine core initialization failed. See stack trace above.",
            ],
            "no memory",
        ),
        (
            [
                "(EngineCore pid=7) torch.OutOfMemoryError: CUDA out of memory.",
                "RuntimeError: Engine core initialization failed. See root cause above.",
                "/usr/lib/resource_tracker.py:254: UserWarning: leaked shared_memory objects",
                "  warnings.warn('resource_tracker: There appear to be 1 leaked objects')",
            ],
            "CUDA out of memory",
        ),
        (
            [
                "KeyError: 'llama5'",
                "RuntimeError: Worker died unexpectedly. Check server logs.",
                "Shutting down",
            ],
            "llama5",
        ),
        (["api_server.py: error: unrecognized arguments: --x"], "unrecognized arguments: --x"),
        (["UserWarning: old"], "UserWarning: old"),
        ([], ""),
    ],
)
def test_the_exit_reason_is_the_root_cause_in_the_log(log: list[str], reason: str) -> None:
    assert reason in exit_reason(log) and ("stack trace" not in exit_reason(log))
