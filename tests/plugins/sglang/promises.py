"""The contract tests of this engine, run as an author runs them, against the stand-in for SGLang's server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest
import pytest_asyncio
from portico_sglang.engine import (
    SGLANG_OPTIONS,
    THOUGHT_PARSERS,
    TOOL_PARSERS,
    SgLang,
)
from tests.server.features.gpu_engines.external.interpreter import interpreter, model
from tests.server.models.adapters.peft_files import pairs, write

from portico.testing.engines import CHAT_CHECKS, GENERATION_CHECKS, EngineCheck
from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.models.catalog import ENGINES, engine_for, gpu_engines
from portico_server.models.plan.choice import plan_model
from portico_server.models.plan.machines import machine_preset
from portico_server.models.plan.planned_parameters import gpu_engine
from portico_server.models.plan.weights import weights_from_config
from portico_server.models.spec import ModelSpec

ROOT = Path(__file__).parents[3]
GIB = 1024**3
STORY = [{"match": "long story", "content": "Once upon a time " * 100, "interval": 0.02}]
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 36, "num_attention_heads": 32, "head_dim": 128,
    "num_key_value_heads": 8, "hidden_size": 4096, "max_position_embeddings": 40960, "torch_dtype": "bfloat16",
}  # fmt: skip


def spec(folder: Path) -> ModelSpec:
    parameters = {"context_length": 512, "python": interpreter(folder, script=STORY)}
    return ModelSpec("m", model(folder), engine="sglang", parameters=parameters, defaults={"temperature": 0})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelFixture]:
    home = tmp_path_factory.mktemp("sglang")
    async with model_fixture(home) as fixture:
        await fixture.models.add(spec(home))
        await fixture.models.load("m")
        yield fixture


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("check", [*CHAT_CHECKS, *GENERATION_CHECKS], ids=lambda check: check.__name__)
async def test_engine(models: ModelFixture, check: EngineCheck) -> None:
    await check(models)


@pytest.mark.asyncio(loop_scope="module")
async def test_an_adapter_answers_beside_its_model(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", pairs(1, {"self_attn.q_proj": (16, 16)}, 8))
    async with model_fixture(tmp_path) as fixture:
        await fixture.models.add(spec(tmp_path))
        await fixture.models.adapters.add("m", folder, "ft:m:portico:x:1", scale=0.5)
        requests = (fixture.ask(name, {"messages": user("hi")}) for name in ("m", "ft:m:portico:x:1"))
        texts = [answer["choices"][0]["message"]["content"] for answer in await asyncio.gather(*requests)]
        assert texts == ["hi", "m:ft:m:portico:x:1 at 1"]


def test_sglang_is_registered_only_by_its_entry_point() -> None:
    assert "sglang" in ENGINES and "sglang" not in ENGINES.built_in
    assert engine_for(ModelSpec("m", "/models/x", engine="sglang")).name == "sglang"


def test_parameters_become_sglangs_command_line_options() -> None:
    parameters = {"context_length": 4096, "memory_share": 0.5, "tool_call_parser": "qwen25"}
    program = SgLang().program(ModelSpec("m", "/models/x", parameters=parameters), Path("/models/x"))
    assert list(program.arguments[2:]) == [
        *(
            "sglang.launch_server",
            "--model-path",
            "/models/x",
            "--served-model-name",
            "m",
            "--api-key",
            "{key}",
        ),
        *("--host", "{host}", "--port", "{port}", "--enable-cache-report"),
        *("--context-length", "4096", "--mem-fraction-static", "0.5", "--tool-call-parser", "qwen25"),
    ]


@pytest.mark.parametrize(
    "parameters",
    [
        {"contxt_length": 1}, {"context_length": "long"}, {"memory_share": 1.5},
        {"arguments": ["--host", "0.0.0.0"]}, {"arguments": ["--config=/etc/passwd"]}, {"chat_template": "/etc/shadow"},
    ],
)  # fmt: skip
def test_unsupported_parameters_are_refused_by_name(parameters: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        SgLang().describe(ModelSpec("m", "/models/x", parameters=parameters), None)
    assert str(caught.value.param).startswith("parameters.")


def test_every_parameter_is_documented() -> None:
    page = (ROOT / "plugins" / "sglang" / "README.md").read_text("utf-8")
    missing = [key for key, option in SGLANG_OPTIONS.items() if f"| `{key}` | `{option.flag}` |" not in page]
    assert missing == []


def test_parsers_are_those_that_sglang_has() -> None:
    pinned = orjson.loads((Path(__file__).parent / "pinned_parsers.json").read_bytes())
    assert set(TOOL_PARSERS.values()) <= set(pinned["tools"])
    assert set(THOUGHT_PARSERS.values()) <= set(pinned["thoughts"])


def test_sglang_is_included_in_plans_and_engine_choice(tmp_path: Path) -> None:
    servers = {engine.name: engine.gpu_traits for engine in gpu_engines()}
    assert list(servers) == ["vllm", "lmdeploy", "sglang"]
    weights = weights_from_config("m", CONFIG, 16 * GIB)
    plan = plan_model(
        weights, machine_preset("rtx4090"), {"context_length": 50_000}, engine="sglang", servers=servers
    )
    assert plan.fits and plan.engine == "sglang" and plan.parameters["kv_cache_dtype"] == "fp8_e4m3"
    assert "for weights and cache" in plan.reasons[-1] and "SGLang" in plan.reasons[0]
    old = plan_model(weights, machine_preset("2 x T4"), engine="sglang", servers=servers)
    assert not old.fits and "SGLang needs compute capability 8.0" in old.reasons[-1]
    assert old.nearest.startswith("It fits on the engine vllm.")
    (tmp_path / "config.json").write_bytes(orjson.dumps(CONFIG))
    (tmp_path / "model.safetensors").write_bytes(b"")
    for parameters, engine_name in (({}, "vllm"), ({"schedule_policy": "lpm"}, "sglang")):
        spec = ModelSpec("m", str(tmp_path), parameters=parameters)
        assert gpu_engine(spec, tmp_path, machine_preset("h100"), gpu_engines()) == engine_name


def test_without_an_interpreter_the_error_names_the_python_parameter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    async def run() -> None:
        async with model_fixture(tmp_path) as fixture:
            await fixture.models.add(ModelSpec("m", model(tmp_path), engine="sglang"))
            with pytest.raises(PorticoError, match="parameter 'python'"):
                await fixture.ask("m", {"messages": user("hello")})

    asyncio.run(run())
