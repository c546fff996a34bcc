"""Well-known providers, as data: their addresses, the sources of their keys, and their differences from OpenAI.

The addresses and limits come from the providers' documentation. To add a provider, add an entry here and a row in
``docs/providers.md``, write a plugin (docs/plugins.md), or use the configuration key ``providers``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest
from portico_server.models.engines.openai_client.quirks import (
    BOOKKEEPING_FIELDS,
    EXACT_FIELDS,
    ImageQuirks,
    Quirks,
)
from portico_server.plugins import PluginTable

WireFormat: TypeAlias = Literal["openai", "anthropic"]

TuningForm: TypeAlias = Literal["openai", "zhipu", "dashscope", "sensenova"]


@dataclass(frozen=True, slots=True)
class ModelProvider:
    """The preset of one provider.

    ``key`` and ``address`` name the environment variables from which the provider's own tools read the key and a
    different address; empty if there is no such variable. ``suffix`` is appended to an address from ``address``.
    ``header`` is the header that carries the key; empty means ``Authorization: Bearer``. ``tuning`` is the format of
    the provider's fine-tuning API. An empty ``url`` means that each user has a separate address.
    """

    __pydantic_config__ = EXACT_FIELDS

    url: str = ""
    key: str = ""
    address: str = ""
    suffix: str = ""
    header: str = ""
    wire: WireFormat = "openai"
    tuning: TuningForm | None = None
    quirks: Quirks = Quirks()


_OPENAI = Quirks(
    renamed={"max_tokens": "max_completion_tokens"},
    embedding_batch=2048,
    # OpenAI has retired the models that accepted these fields; the current models return base64 and reject
    # the fields.
    pictures=ImageQuirks(dropped=frozenset({"response_format", "style"})),
)
_OLDER: Mapping[str, str] = {"max_completion_tokens": "max_tokens"}
"""Renamed fields, for servers that know the token limit by the name that OpenAI deprecated."""

_BUILT_IN: Mapping[str, ModelProvider] = {
    "openai": ModelProvider(
        "https://api.openai.com/v1", "OPENAI_API_KEY", "OPENAI_BASE_URL", tuning="openai", quirks=_OPENAI
    ),
    "azure": ModelProvider(
        "",
        "AZURE_OPENAI_API_KEY",
        "AZURE_OPENAI_ENDPOINT",
        suffix="/openai/v1",
        header="api-key",
        quirks=_OPENAI,
    ),
    "anthropic": ModelProvider(
        "https://api.anthropic.com/v1",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        suffix="/v1",
        header="x-api-key",
        wire="anthropic",
    ),
    "gemini": ModelProvider(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        quirks=Quirks(
            dropped=BOOKKEEPING_FIELDS | {"parallel_tool_calls"},
            refused=frozenset({"logit_bias"}),
            strict_tools=False,
            developer=False,
            embedding_batch=100,
            base64=False,
        ),
    ),
    "moonshot": ModelProvider(
        "https://api.moonshot.cn/v1",
        "MOONSHOT_API_KEY",
        quirks=Quirks(renamed=_OLDER, dropped=BOOKKEEPING_FIELDS, developer=False, base64=False),
    ),
    "zhipu": ModelProvider(
        "https://open.bigmodel.cn/api/paas/v4",
        "ZHIPUAI_API_KEY",
        tuning="zhipu",
        quirks=Quirks(
            renamed=_OLDER,
            dropped=BOOKKEEPING_FIELDS,
            developer=False,
            embedding_batch=64,
            base64=False,
            pictures=ImageQuirks(
                refused=frozenset({"n"}), taken=frozenset({"model", "prompt", "size"}), edits=False
            ),
        ),
    ),
    "dashscope": ModelProvider(
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        "DASHSCOPE_API_KEY",
        tuning="dashscope",
        quirks=Quirks(
            renamed=_OLDER, dropped=BOOKKEEPING_FIELDS, developer=False, embedding_batch=10, base64=False
        ),
    ),
    "sensenova": ModelProvider(
        "https://api.sensenova.cn/compatible-mode/v1",
        "SENSENOVA_API_KEY",
        "SENSENOVA_BASE_URL",
        tuning="sensenova",
        # SenseNova's gateway rejects every field that its parameter table does not list, without naming the
        # field.
        quirks=Quirks(
            renamed=_OLDER,
            refused=frozenset({"response_format", "logprobs", "logit_bias", "modalities"}),
            taken=frozenset(
                {"model", "messages", "stream", "stream_options", "temperature", "top_p", "max_tokens", "n"}
                | {"stop", "frequency_penalty", "presence_penalty", "reasoning_effort", "tools", "seed"}
                | {"tool_choice", "parallel_tool_calls"}
            ),
            strict_tools=False,
            developer=False,
            base64=False,
        ),
    ),
    "deepseek": ModelProvider(
        "https://api.deepseek.com/v1",
        "DEEPSEEK_API_KEY",
        quirks=Quirks(renamed=_OLDER, dropped=BOOKKEEPING_FIELDS, developer=False),
    ),
    "siliconflow": ModelProvider(
        "https://api.siliconflow.cn/v1",
        "SILICONFLOW_API_KEY",
        quirks=Quirks(
            renamed=_OLDER,
            dropped=BOOKKEEPING_FIELDS,
            developer=False,
            embedding_batch=32,
            base64=False,
            pictures=ImageQuirks(
                renamed={"size": "image_size", "n": "batch_size", "steps": "num_inference_steps"},
                taken=frozenset(
                    {"model", "prompt", "negative_prompt", "image_size", "batch_size", "seed"}
                    | {"num_inference_steps", "guidance_scale"}
                ),
                edits=False,
                inside=("image", "image2", "image3"),
            ),
        ),
    ),
    "mistral": ModelProvider(
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        # Mistral responds with 422 to an unknown field, and sends a stream's token counts without being
        # asked.
        quirks=Quirks(
            renamed={**_OLDER, "seed": "random_seed"},
            dropped=BOOKKEEPING_FIELDS,
            refused=frozenset({"logprobs", "top_logprobs", "logit_bias"}),
            stream_usage=False,
            developer=False,
            base64=False,
        ),
    ),
    "groq": ModelProvider(
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        quirks=Quirks(refused=frozenset({"logprobs", "top_logprobs", "logit_bias"}), developer=False),
    ),
    "together": ModelProvider(
        "https://api.together.xyz/v1",
        "TOGETHER_API_KEY",
        quirks=Quirks(
            renamed=_OLDER,
            dropped=BOOKKEEPING_FIELDS,
            developer=False,
            base64=False,
            pictures=ImageQuirks(sides=True, encoded="base64", edits=False, inside=("image_url",)),
        ),
    ),
    "fireworks": ModelProvider(
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        quirks=Quirks(renamed=_OLDER, developer=False, base64=False),
    ),
    "openrouter": ModelProvider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "xai": ModelProvider(
        "https://api.x.ai/v1",
        "XAI_API_KEY",
        quirks=Quirks(
            renamed=_OLDER,
            pictures=ImageQuirks(dropped=frozenset({"quality", "style"}), refused=frozenset({"size"})),
        ),
    ),
    "ollama": ModelProvider(
        "http://127.0.0.1:11434/v1", quirks=Quirks(renamed=_OLDER, developer=False, base64=False)
    ),
    "lmstudio": ModelProvider(
        "http://127.0.0.1:1234/v1", quirks=Quirks(renamed=_OLDER, developer=False, base64=False)
    ),
    "vllm": ModelProvider("http://127.0.0.1:8000/v1"),
    "lmdeploy": ModelProvider(
        "http://127.0.0.1:23333/v1",
        quirks=Quirks(
            renamed=_OLDER,
            refused=frozenset({"presence_penalty", "frequency_penalty"}),
            developer=False,
            base64=False,
        ),
    ),
}


def _accept(candidate: Any) -> ModelProvider:
    if not isinstance(candidate, ModelProvider):
        raise InvalidRequest(f"a provider must be a ModelProvider; {candidate!r} is not.")
    return candidate


PROVIDERS = PluginTable("provider", _BUILT_IN, _accept)
"""All providers by name, including those of plugins."""


def parse_provider(value: Any, at: str) -> ModelProvider:
    """Parse a provider from the configuration at the path ``at``. The keys are the fields of `ModelProvider`.

    Raise `InvalidRequest` that names the field.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        provider = TypeAdapter(ModelProvider).validate_python(value)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join((at, *map(str, fault["loc"])))
        raise InvalidRequest(f"{place}: {fault['msg']}.", param=place) from error
    if provider.url and not provider.url.startswith(("http://", "https://")):
        raise InvalidRequest(f"{at}.url must be an http(s) URL, not '{provider.url}'.", param=f"{at}.url")
    if not provider.url and not provider.address:
        raise InvalidRequest(
            f"{at} needs a 'url', or an 'address' that names an environment variable.", param=at
        )
    return provider
