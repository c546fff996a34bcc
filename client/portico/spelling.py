"""Suggests the intended name: the nearest known name, or Portico's name for a term of OpenAI, LazyLLM or Lagent."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from typing import Final

_SPELLINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "actions": ("tools",),
    "aggregator": ("aggregate",),
    "bot_prompt": ("instructions", "system"),
    "chunk_overlap": ("overlap", "chunk_overlap_tokens", "chunking", "chunking_strategy"),
    "chunk_size": ("size", "max_chunk_size_tokens", "chunking", "chunking_strategy"),
    "chunker": ("strategy", "groups"),
    "chunkr": ("strategy", "groups"),
    "conversation_id": ("session", "conversation"),
    "count": ("limit",),
    "dataset_path": ("folder",),
    "embed": ("embedding_model",),
    "embed_model": ("embedding_model",),
    "epochs": ("n_epochs", "hyperparameters"),
    "extra_keys": ("variables",),
    "formatter": ("output", "format"),
    "functions": ("tools",),
    "gen_params": ("extra_body",),
    "group_name": ("group", "groups"),
    "k": ("top_k", "max_num_results"),
    "limit": ("top_k", "max_num_results"),
    "llm": ("model",),
    "max_new_tokens": ("max_tokens", "defaults"),
    "max_output_tokens": ("max_tokens",),
    "max_results": ("max_num_results", "top_k"),
    "max_turn": ("limits", "rounds"),
    "max_turns": ("limits", "rounds"),
    "max_chunk_size_tokens": ("size",),
    "min_p": ("extra_body",),
    "meta_template": ("parameters",),
    "model_name": ("model",),
    "model_type": ("model",),
    "n_epochs": ("hyperparameters",),
    "node_groups": ("groups", "group"),
    "num_results": ("max_num_results", "top_k"),
    "output_format": ("output", "format"),
    "output_schema": ("output", "format"),
    "output_type": ("output", "format"),
    "parser": ("output", "format"),
    "path": ("source", "folder"),
    "prompt": ("instructions", "system"),
    "repetition_penalty": ("extra_body",),
    "response_format": ("output", "format"),
    "session_id": ("session", "conversation"),
    "similarity": ("ranker",),
    "similarity_cut_off": ("threshold", "score_threshold"),
    "state": ("variables",),
    "stop_condition": ("until",),
    "stop_sequences": ("stop",),
    "stop_words": ("stop", "defaults"),
    "system": ("instructions",),
    "system_instruction": ("instructions", "system"),
    "system_message": ("instructions", "system"),
    "system_prompt": ("instructions", "system", "messages", "prompt"),
    "temperature": ("defaults",),
    "template": ("instructions", "system"),
    "thread_id": ("session", "conversation"),
    "top_k": ("max_num_results", "extra_body"),
    "topk": ("top_k", "max_num_results"),
    "tp": ("parameters",),
    "transform": ("chunking", "chunking_strategy"),
    "url": ("source",),
}
"""Terms of OpenAI, LazyLLM and Lagent, and Portico's names for them. The first name that is valid in the context
is used.
"""

_MAX_NAME_LENGTH: Final = 200
"""Maximum number of characters of a name to compare with known names."""


_MAX_COMPARED_NAMES: Final = 256
"""Maximum number of names to compare with a wrong name. Of more names, its neighbours in the alphabet are compared."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` with the nearest known names, or an empty string if none is near."""
    from difflib import get_close_matches

    names = set(known)
    preferred_name = next((word for word in _SPELLINGS.get(name, ()) if word in names), None)
    close = (
        [preferred_name]
        if preferred_name
        else get_close_matches(name[:_MAX_NAME_LENGTH], _neighbours(name, names), n=3, cutoff=0.5)
    )
    if not close:
        return ""
    return " Did you mean " + " or ".join(f"'{item}'" for item in close) + "?"


def _neighbours(name: str, names: Collection[str]) -> list[str]:
    """Return the names around ``name`` in the alphabet, or all if they are few."""
    sorted_names = sorted(names)
    begin = bisect_left(sorted_names, name) - _MAX_COMPARED_NAMES // 2
    begin = max(0, min(begin, len(sorted_names) - _MAX_COMPARED_NAMES))
    return sorted_names[begin : begin + _MAX_COMPARED_NAMES]


def misspelt(name: str, known: Collection[str]) -> str:
    """Return the known name that is almost certainly meant, because ``name`` is another framework's term or a close
    misspelling. Otherwise return an empty string.
    """
    from difflib import get_close_matches

    if name in known:
        return ""
    preferred_name = next(
        (word for word in _SPELLINGS.get(name, ()) if word in known and word != "extra_body"), ""
    )
    return preferred_name or next(
        iter(get_close_matches(name[:_MAX_NAME_LENGTH], sorted(known), n=1, cutoff=0.85)), ""
    )
