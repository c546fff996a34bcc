"""Parameters of a model on llama.cpp, as an operator writes them. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, nearest

Kind: TypeAlias = Literal["whole", "number", "text", "path", "template"]

TEMPLATE_SUFFIXES = (".jinja", ".jinja2", ".j2")
"""How files with a chat template are called: any other file is not read into what a model shows."""

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
"""Number formats of the key-value cache, and their size as a part of 16 bits."""

POOLINGS = ("mean", "cls", "last")

FLASH_MODES = ("auto", "on", "off")

ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")

SPECULATIONS = ("ngram",)

NO_PROJECTOR = "none"
"""Instead of a projector that lies beside the model: do without."""


@dataclass(frozen=True, slots=True)
class LlamaCppOption:
    """``lowest`` is the least that a number may be; a text must be one of ``words`` where there are some."""

    kind: Kind
    doc: str
    lowest: float = 1
    words: Sequence[str] = ()


LLAMACPP_OPTIONS: Mapping[str, LlamaCppOption] = {
    "context_length": LlamaCppOption("whole", "tokens that one call may have"),
    "slots": LlamaCppOption("whole", "calls that are worked on at the same time"),
    "threads": LlamaCppOption("whole", "threads that compute; one for each core unless given"),
    "gpu_layers": LlamaCppOption("whole", "layers on the GPU; -1 for as many as fit", lowest=-1),
    "cache_type": LlamaCppOption("text", "number format of the key-value cache", words=tuple(CACHE_TYPES)),
    "flash_attention": LlamaCppOption("text", "faster attention that needs less memory", words=FLASH_MODES),
    "pooling": LlamaCppOption("text", "how an embedding is made of a text's tokens", words=POOLINGS),
    "chat_template": LlamaCppOption("text", "a Jinja template instead of the model's own"),
    "chat_template_file": LlamaCppOption("template", "a file with such a template"),
    "mmproj": LlamaCppOption(
        "path", "file that lets the model see, if it does not lie beside it; none: do without"
    ),
    "draft_model": LlamaCppOption(
        "path", "GGUF file of a small model with the same words, which guesses ahead"
    ),
    "draft_tokens": LlamaCppOption("whole", "tokens that are guessed at a time"),
    "speculation": LlamaCppOption("text", "guess ahead from what was said before", words=SPECULATIONS),
    "rope_scaling": LlamaCppOption(
        "text", "how a longer context than the trained one is reached", words=ROPE_SCALINGS
    ),
    "rope_scale": LlamaCppOption("number", "how many times longer"),
    "rope_base": LlamaCppOption("number", "base frequency of the positions, instead of the model's"),
    "rope_original_context": LlamaCppOption(
        "whole", "tokens that the model was trained for before it was extended"
    ),
}
"""What ``parameters`` of a model on llama.cpp may hold, in addition to ``fallback``."""


def check_options(name: str, parameters: Mapping[str, Any]) -> None:
    """Raise `InvalidRequest` for a parameter that llama.cpp does not take from us, or a wrong value."""
    for key, value in parameters.items():
        option = LLAMACPP_OPTIONS.get(key)
        if option is None:
            raise InvalidRequest(
                f"The engine 'llamacpp' has no parameter '{key}' (model '{name}').{nearest(key, LLAMACPP_OPTIONS)} It "
                f"has "
                f"{', '.join(LLAMACPP_OPTIONS)}.",
                param=f"parameters.{key}",
            )
        if not _fits(value, option):
            raise InvalidRequest(
                f"'{key}' of the model '{name}' must be {_wanted(option)}.", param=f"parameters.{key}"
            )
    for pair in (("chat_template", "chat_template_file"), ("draft_model", "speculation")):
        if all(parameters.get(key) for key in pair):
            raise InvalidRequest(
                f"'{pair[0]}' and '{pair[1]}' of the model '{name}' exclude each other: give one of them.",
                param=f"parameters.{pair[1]}",
            )
    if parameters.get("cache_type", "f16").startswith("q") and parameters.get("flash_attention") == "off":
        raise InvalidRequest(
            f"A quantised 'cache_type' of the model '{name}' needs flash attention: leave 'flash_attention' out.",
            param="parameters.flash_attention",
        )


def _fits(value: Any, option: LlamaCppOption) -> bool:
    if option.kind in ("whole", "number"):
        kinds = int if option.kind == "whole" else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and value >= option.lowest
    if option.kind == "template":
        return isinstance(value, str) and value.endswith(TEMPLATE_SUFFIXES)
    return isinstance(value, str) and bool(value) and (not option.words or value in option.words)


def _wanted(option: LlamaCppOption) -> str:
    if option.words:
        return f"one of {', '.join(option.words)}"
    return {
        "whole": f"a whole number ≥ {option.lowest:g}",
        "number": f"a number ≥ {option.lowest:g}",
        "text": "a text",
        "path": "the path of a file",
        "template": f"the path of a template, which ends in {', '.join(TEMPLATE_SUFFIXES)}",
    }[option.kind]


# Files that a model is loaded with in addition to its own: a projector that lets it see, a model that guesses ahead, a
# template. Reads headers only. Blocks.
