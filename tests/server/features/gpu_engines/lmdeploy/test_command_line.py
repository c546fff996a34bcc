"""LMDeploy's command lines and, if LMDeploy is available, how its own parser reads them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.server.features.gpu_engines.lmdeploy import environment
from tests.server.models.adapters import peft_files

from portico_server.core.errors import InvalidRequest
from portico_server.core.relay import AdapterScale
from portico_server.features.gpu_engines.lmdeploy.engine import LMDEPLOY_OPTIONS, LmDeploy
from portico_server.models.spec import ModelSpec

KEY = "0123"

# Parameters of a model, and the settings that LMDeploy must read from them beside its own defaults.
READ: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"backend": "pytorch"}, {"backend": "pytorch"}),
    ({"backend": "turbomind", "tensor_parallel": 2}, {"backend": "turbomind", "tp": 2}),
    ({"tensor_parallel": 2, "data_parallel": 2}, {"tp": 2, "dp": 2}),
    ({"context_length": 32768, "max_sequences": 64}, {"session_len": 32768, "max_batch_size": 64}),
    ({"dtype": "bfloat16"}, {"dtype": "bfloat16"}),
    ({"dtype": "float16", "memory_share": 0.35}, {"dtype": "float16", "cache_max_entry_count": 0.35}),
    *(
        ({"quantization": form}, {"model_format": form})
        for form in ("hf", "awq", "gptq", "compressed-tensors", "fp8", "mxfp4")
    ),
    ({"kv_cache_bits": 4}, {"quant_policy": 4}),
    ({"kv_cache_bits": 8}, {"quant_policy": 8}),
    ({"chat_template": "mistral"}, {"chat_template": "mistral"}),
    ({"tool_call_parser": "qwen3"}, {"tool_call_parser": "qwen3"}),
    ({"reasoning_parser": "default"}, {"reasoning_parser": "default"}),
    ({"reasoning_parser": "deepseek-v3"}, {"reasoning_parser": "deepseek-v3"}),
    ({"prefix_caching": True, "trust_remote_code": True}, {"enable_prefix_caching": True, "trust_remote_code": True}),
    ({"prefix_caching": False}, {}),
    ({"arguments": ["--speculative-algorithm", "eagle3"]}, {"speculative_algorithm": "eagle3"}),
    ({"arguments": ["--cp", "2", "--communicator", "cuda-ipc"]}, {"cp": 2, "communicator": "cuda-ipc"}),
]  # fmt: skip

OURS: Mapping[str, Any] = {
    "model_name": "m", "server_name": "127.0.0.1", "server_port": 8000, "api_keys": [KEY],
    "logprobs_mode": "raw_logprobs", "enable_abort_handling": True,
}  # fmt: skip
"""Settings that every model is started with."""


def line(parameters: dict[str, Any], adapters: tuple[AdapterScale, ...] = ()) -> list[str]:
    """Return the arguments after ``python -m lmdeploy``."""
    program = LmDeploy().program(
        ModelSpec("m", "/models/x", parameters=parameters), Path("/models/x"), adapters
    )
    substitutions = {"{host}": "127.0.0.1", "{port}": "8000", "{key}": KEY}
    assert program.arguments[:3] == ["-P", "-m", "lmdeploy"]
    return [substitutions.get(part, part) for part in program.arguments[3:]]


def parsed(lines: list[list[str]]) -> dict[str, Any]:
    command = [environment.PYTHON, "-W", "ignore", str(environment.HERE / "parse.py")]
    done = subprocess.run(command, input=json.dumps(lines), capture_output=True, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_parameters_become_lmdeploys_command_line_options() -> None:
    parameters = {"context_length": 8192, "tensor_parallel": 2, "memory_share": 0.4, "backend": "pytorch"}
    assert line(parameters) == [
        *("serve", "api_server", "/models/x", "--api-keys", KEY),
        *("--model-name", "m", "--server-name", "127.0.0.1", "--server-port", "8000"),
        *("--logprobs-mode", "raw_logprobs", "--enable-abort-handling"),
        *("--backend", "pytorch", "--session-len", "8192", "--tp", "2", "--cache-max-entry-count", "0.4"),
    ]


def test_an_adapter_config_is_rewritten_for_lmdeploys_older_peft(tmp_path: Path) -> None:
    newer = {"use_rslora": True, "lora_alpha": 8, "target_modules": "all-linear", "corda_config": None}
    folder = peft_files.write(tmp_path / "a", peft_files.pairs(1, {"q_proj": (16, 16)}, 4), **newer)
    arguments = line({"data_parallel": 1}, (AdapterScale("ft:m:x", folder, 0.5),))
    assert arguments[arguments.index("--backend") + 1] == "pytorch" and arguments[-2] == "--adapters"
    name, _, path = arguments[-1].partition("=")
    adapter_config = json.loads((Path(path) / "adapter_config.json").read_bytes())
    assert name == "ft:m:x" and (
        adapter_config["r"],
        adapter_config["lora_alpha"],
        adapter_config["target_modules"],
    ) == (
        4,
        8.0,
        ["q_proj"],
    )
    assert set(adapter_config) == {
        "peft_type", "task_type", "base_model_name_or_path", "r", "lora_alpha", "target_modules", "bias",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"kv_cache_bits": 16}, "parameters.kv_cache_bits"),
        ({"chat_template": "/models/own.jinja"}, "parameters.chat_template"),
        ({"data_parallel": 2, "backend": "pytorch"}, "parameters.data_parallel"),
        ({"kv_offload_gb": 8}, "parameters.kv_offload_gb"),
    ],
)
def test_parameters_that_lmdeploy_cannot_run_are_refused_early(
    parameters: dict[str, Any], param: str
) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        LmDeploy().describe(ModelSpec("m", "/models/x", parameters=parameters), None)
    assert error_info.value.param == param


def test_parameter_sets_of_the_parser_test_produce_command_lines() -> None:
    for parameters, _ in READ:
        assert line(parameters)


@environment.needed
def test_lmdeploys_own_parser_accepts_our_command_lines(tmp_path: Path) -> None:
    folders = [
        peft_files.write(tmp_path / name, peft_files.pairs(1, {"q_proj": (16, 16)}, 4)) for name in "ab"
    ]
    adapters = tuple(
        AdapterScale(name, folder, 1.0) for name, folder in zip(("ft:m:p:x:1", "b"), folders, strict=True)
    )
    lines = [line(parameters) for parameters, _ in READ]
    adapter_lines = [line({}, adapters[:1]), line({}, adapters)]
    wrong = [
        line({"dtype": "float32"}),
        line({"tool_call_parser": "hermes"}),
        line({"chat_template": "chatml"}),
    ]
    bare = ["serve", "api_server", "/models/x"]
    parser_report = parsed([bare, *lines, *adapter_lines, *wrong])
    defaults, *read = parser_report["read"]
    for (parameters, expected_options), options in zip(READ, read, strict=False):
        assert options == {**defaults, **OURS, **expected_options}, parameters
    one_adapter_options, two_adapters_options = read[len(lines) : len(lines) + 2]
    plain = {adapter.name: str(adapter.path / "plain-1") for adapter in adapters}
    assert (
        one_adapter_options["adapters"] == dict(list(plain.items())[:1])
        and two_adapters_options["adapters"] == plain
    )
    assert two_adapters_options["backend"] == "pytorch"
    for words, says in zip(read[-3:], ("--dtype", "tool parser hermes", "'chatml'"), strict=True):
        assert says in words


@environment.needed
def test_documented_option_values_match_lmdeploys_choices() -> None:
    choices = parsed([])["choices"]
    for key in ("backend", "dtype", "quantization"):
        option = LMDEPLOY_OPTIONS[key]
        documented_values = {
            word.strip(",") for word in option.doc.split(", if")[0].replace(" or ", " ").split()
        }
        assert documented_values == set(choices[option.flag]), key
