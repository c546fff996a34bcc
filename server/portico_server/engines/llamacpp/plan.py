"""Which parameters a GGUF file gets on this machine: slots, context, threads. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from portico_server.engines.gguf import Gguf
from portico_server.engines.llamacpp.beside import Beside
from portico_server.engines.llamacpp.options import CACHE_TYPES, POOLINGS
from portico_server.engines.protocol import MEMORY_SHARE
from portico_server.settings import MB_BYTES

if TYPE_CHECKING:
    from portico_server.engines.hardware import Hardware

SLOTS = 4
"""Calls that are worked on at the same time."""

SHARE = 0.25
"""Part of the machine's memory that the key-value cache may take."""

CACHE_FLOOR, CACHE_FLOOR_SHARE = 512 * MB_BYTES, 0.02
"""Bytes, and part of the machine's memory, that the key-value cache may take even where the model is smaller: more
would be out of proportion."""

PROMPTS_SHARE, PROMPTS_MOST = 1 / 64, 512 * MB_BYTES
"""Part of the machine's memory, and the most of it in bytes, for prompts of earlier calls. llama.cpp's own default is
8 GB."""

BATCH = 512
"""Tokens that are computed at a time."""

PROCESS = 60 * MB_BYTES
"""Bytes of a worker before its model: Python and llama.cpp's libraries. Measured: 35 to 70 MB."""

ENOUGH = 8_192
"""Tokens per slot above which a smaller context is better than fewer slots."""

LEAST = 512
"""Tokens; below this a context is of no use."""

EMBEDDING_ARCHITECTURES = (
    "bert",
    "nomic-bert",
    "nomic-bert-moe",
    "jina-bert-v2",
    "gemma-embedding",
    "t5encoder",
)

RANK = "rank"
"""The pooling of a reranker: one score for a question and a text."""


@dataclass(frozen=True, slots=True)
class Plan:
    """``context_length`` is for one slot, in tokens; ``gpu_layers`` -1 means as many as fit.

    ``prompts_mb`` is for prompts of earlier calls, ``cache_type`` the number format of the key-value cache.
    ``projector`` and ``draft`` are paths, which take ``beside_bytes`` together, and the draft ``draft_per_token`` bytes
    of cache. A 0 or an empty text leaves a choice to llama.cpp.
    """

    embedding: bool
    slots: int
    context_length: int
    threads: int
    prompts_mb: int = 0
    cache_type: str = "f16"
    gpu_layers: int = -1
    pooling: str = ""
    chat_template: str = ""
    flash_attention: str = "auto"
    projector: str = ""
    draft: str = ""
    draft_tokens: int = 0
    draft_per_token: int = 0
    speculation: str = ""
    rope_scaling: str = ""
    rope_scale: float = 0.0
    rope_base: float = 0.0
    rope_original_context: int = 0
    beside_bytes: int = 0


def embeds(file: Gguf) -> bool:
    """Whether a file is an embedding model by its own words, or a reranker, which works like one."""
    return file.pooling in (*POOLINGS, RANK) or file.architecture in EMBEDDING_ARCHITECTURES


def reranks(file: Gguf) -> bool:
    """Whether a file is a reranker by its own words."""
    return file.pooling == RANK


def plan(
    file: Gguf,
    hardware: Hardware,
    parameters: Mapping[str, Any],
    *,
    embedding: bool,
    beside: Beside = Beside(),  # noqa: B008  # frozen
) -> Plan:
    """What fits: the model's own context for each slot, less of it or fewer slots where memory is short."""
    trained = int((file.context_length or 4_096) * (parameters.get("rope_scale") or 1))
    asked = parameters.get("context_length")
    wanted = min(asked or trained, trained) if embedding else (asked or trained)
    cache_type = parameters.get("cache_type") or "f16"
    draft = beside.draft_file
    draft_per_token = draft.kv_bytes_per_token if draft is not None else 0  # always in 16 bits
    per_token = max(1, int(file.kv_bytes_per_token * CACHE_TYPES[cache_type])) + draft_per_token
    extra = beside.projector_bytes + (draft.file_size if draft is not None else 0)
    # A cache much larger than the model, or than two good contexts, would be paid for by everyone and filled by few.
    usual = 2 * min(wanted, ENOUGH) * per_token
    fair = max(CACHE_FLOOR, hardware.memory_bytes * CACHE_FLOOR_SHARE, file.file_size, usual)
    left = allowed(hardware) - file.file_size - extra - PROCESS - BATCH * _width(file) * 4
    room = max(0, min(hardware.memory_bytes * SHARE, fair, left))
    tokens = int(room) // per_token
    slots = parameters.get("slots") or SLOTS
    if asked is None:
        if parameters.get("slots") is None:
            while slots > 1 and tokens // slots < min(wanted, ENOUGH):
                slots //= 2
        wanted = min(wanted, max(LEAST, tokens // slots // 256 * 256))
    if embedding:
        # A text is one batch, and its compute buffer grows with it.
        wanted = min(wanted, ENOUGH)
    return Plan(
        embedding=embedding,
        slots=slots,
        context_length=wanted,
        threads=parameters.get("threads") or hardware.cores,
        prompts_mb=0
        if embedding
        else int(min(hardware.memory_bytes * PROMPTS_SHARE, PROMPTS_MOST)) // MB_BYTES,
        cache_type=cache_type,
        gpu_layers=parameters.get("gpu_layers", -1),
        pooling=parameters.get("pooling") or (file.pooling if file.pooling in POOLINGS else ""),
        chat_template=parameters.get("chat_template", "") or beside.template,
        flash_attention=parameters.get("flash_attention", "auto"),
        projector=beside.projector,
        draft=beside.draft,
        draft_tokens=parameters.get("draft_tokens", 0),
        draft_per_token=draft_per_token,
        speculation=parameters.get("speculation", ""),
        rope_scaling=parameters.get("rope_scaling", ""),
        rope_scale=float(parameters.get("rope_scale", 0)),
        rope_base=float(parameters.get("rope_base", 0)),
        rope_original_context=parameters.get("rope_original_context", 0),
        beside_bytes=extra,
    )


def chosen(settled: Plan) -> dict[str, Any]:
    """A plan's parameters by their names, for a person: those that are always of interest, and what is not usual."""
    always = {"context_length": settled.context_length, "slots": settled.slots, "threads": settled.threads}
    usual = Plan(False, 0, 0, 0)
    unusual = {
        name: getattr(settled, field)
        for name, field in (
            ("cache_type", "cache_type"),
            ("flash_attention", "flash_attention"),
            ("mmproj", "projector"),
            ("draft_model", "draft"),
            ("draft_tokens", "draft_tokens"),
            ("speculation", "speculation"),
            ("rope_scaling", "rope_scaling"),
            ("rope_scale", "rope_scale"),
            ("rope_base", "rope_base"),
            ("rope_original_context", "rope_original_context"),
        )
        if getattr(settled, field) != getattr(usual, field)
    }
    return {**always, **unusual}


def allowed(hardware: Hardware) -> int:
    """Bytes that models may have on a machine: what its GPU sees of the memory, where they share it."""
    shared = [gpu.memory_bytes for gpu in hardware.gpus if gpu.shared]
    return min([int(hardware.memory_bytes * MEMORY_SHARE), *shared])


def _width(file: Gguf) -> int:
    """Numbers per token of a batch: a few hidden states are really touched, the scores are kept for few tokens."""
    return 16 * file.embedding_length


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes of memory by what they are for. ``prompts`` fill up only as calls come."""

    weights: int
    cache: int
    compute: int
    process: int
    prompts: int

    @property
    def total(self) -> int:
        """What is certain: all but the prompts of earlier calls."""
        return self.weights + self.cache + self.compute + self.process


def need(file: Gguf, settled: Plan) -> Need:
    """How much memory a plan takes."""
    tokens = settled.slots * settled.context_length
    batch = settled.context_length if settled.embedding else BATCH
    return Need(
        weights=file.file_size + settled.beside_bytes,
        cache=int(tokens * file.kv_bytes_per_token * CACHE_TYPES[settled.cache_type])
        + tokens * settled.draft_per_token,
        compute=batch * _width(file) * 4,
        process=PROCESS,
        prompts=settled.prompts_mb * MB_BYTES,
    )
