"""Parameters of a model on llama.cpp, as an operator writes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest

Kind: TypeAlias = Literal["whole", "number", "text", "path", "template"]

TEMPLATE_SUFFIXES = (".jinja", ".jinja2", ".j2")
"""File name suffixes of chat templates: other files are not read, because a model could show their contents."""

CACHE_TYPES: Mapping[str, float] = {
    "f32": 2.0,
    "f16": 1.0,
    "bf16": 1.0,
    "q8_0": 34 / 64,
    "q5_1": 24 / 64,
    "q5_0": 22 / 64,
    "q4_1": 20 / 64,
    "q4_0": 18 / 64,
}
"""Number formats of the key-value cache, and the size of a number as a share of 16 bits."""

POOLINGS = ("mean", "cls", "last")

FLASH_MODES = ("auto", "on", "off")

ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")

SPECULATIONS = ("ngram",)

NO_PROJECTOR = "none"
"""Value that turns off a projector in the model's folder."""


@dataclass(frozen=True, slots=True)
class LlamaCppOption:
    """One parameter. ``lowest`` is the minimum of a number. If ``words`` is not empty, a text must be one of them."""

    kind: Kind
    doc: str
    lowest: float = 1
    words: Sequence[str] = ()


LLAMACPP_OPTIONS: Mapping[str, LlamaCppOption] = {
    "context_length": LlamaCppOption("whole", "maximum tokens of one call"),
    "slots": LlamaCppOption("whole", "maximum number of concurrent calls"),
    "threads": LlamaCppOption("whole", "compute threads; by default one per core"),
    "gpu_layers": LlamaCppOption("whole", "layers on the GPU; -1 for as many as fit", lowest=-1),
    "cache_type": LlamaCppOption("text", "number format of the key-value cache", words=tuple(CACHE_TYPES)),
    "flash_attention": LlamaCppOption("text", "faster attention that needs less memory", words=FLASH_MODES),
    "pooling": LlamaCppOption("text", "how an embedding is pooled from a text's tokens", words=POOLINGS),
    "chat_template": LlamaCppOption("text", "a Jinja template instead of the model's own"),
    "chat_template_file": LlamaCppOption("template", "a file with a Jinja template"),
    "mmproj": LlamaCppOption(
        "path", "file that adds image input, if it is not in the model's folder; none turns off image input"
    ),
    "draft_model": LlamaCppOption(
        "path", "GGUF file of a smaller model with the same vocabulary, which drafts tokens"
    ),
    "draft_tokens": LlamaCppOption("whole", "number of tokens that are drafted at a time"),
    "speculation": LlamaCppOption("text", "draft tokens from the preceding text", words=SPECULATIONS),
    "rope_scaling": LlamaCppOption(
        "text", "method for a context longer than the trained context", words=ROPE_SCALINGS
    ),
    "rope_scale": LlamaCppOption("number", "factor by which the context is longer than the trained context"),
    "rope_base": LlamaCppOption("number", "base frequency of the positions, instead of the model's own"),
    "rope_original_context": LlamaCppOption(
        "whole", "the model's trained context before its extension, in tokens"
    ),
}
"""Valid ``parameters`` of a model on llama.cpp, in addition to ``fallback``."""


def check_options(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` for a parameter that this engine does not support, or an invalid value."""
    for key, value in parameters.items():
        option = LLAMACPP_OPTIONS.get(key)
        if option is None:
            raise InvalidRequest(
                f"The engine 'llamacpp' has no parameter '{key}' (model "
                f"'{name}').{nearest(key, LLAMACPP_OPTIONS)} Valid parameters: {', '.join(LLAMACPP_OPTIONS)}.",
                param=f"parameters.{key}",
            )
        if not _fits(value, option):
            raise InvalidRequest(
                f"'{key}' of the model '{name}' must be {_expected_text(option)}.", param=f"parameters.{key}"
            )
    for pair in (("chat_template", "chat_template_file"), ("draft_model", "speculation")):
        if all(parameters.get(key) for key in pair):
            raise InvalidRequest(
                f"'{pair[0]}' and '{pair[1]}' of the model '{name}' exclude each other: set only one of them.",
                param=f"parameters.{pair[1]}",
            )
    if parameters.get("cache_type", "f16").startswith("q") and parameters.get("flash_attention") == "off":
        raise InvalidRequest(
            f"A quantised 'cache_type' of the model '{name}' needs flash attention: leave out "
            "'flash_attention'.",
            param="parameters.flash_attention",
        )


def _fits(value: Any, option: LlamaCppOption) -> bool:
    if option.kind in ("whole", "number"):
        kinds = int if option.kind == "whole" else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and value >= option.lowest
    if option.kind == "template":
        return isinstance(value, str) and value.endswith(TEMPLATE_SUFFIXES)
    return isinstance(value, str) and bool(value) and (not option.words or value in option.words)


def _expected_text(option: LlamaCppOption) -> str:
    if option.words:
        return f"one of {', '.join(option.words)}"
    return {
        "whole": f"a whole number ≥ {option.lowest:g}",
        "number": f"a number ≥ {option.lowest:g}",
        "text": "a text",
        "path": "the path of a file",
        "template": f"the path of a template, which ends in {', '.join(TEMPLATE_SUFFIXES)}",
    }[option.kind]


# Files that are loaded together with a model: a projector for image input, a draft model, a template. Reads
# only headers. Blocks.
