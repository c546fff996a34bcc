"""How llama.cpp runs a GGUF file on this machine: options, companion files, slots, context, memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portico_server.core.dataclass import dataclass
from portico_server.core.errors import InvalidRequest, PorticoError
from portico_server.models.gguf import Gguf, read_gguf
from portico_server.models.protocol import MEMORY_SHARE
from portico_server.settings import MB_BYTES

if TYPE_CHECKING:
    from portico_server.models.hardware import Hardware
from portico_server.models.plan.llamacpp_options import CACHE_TYPES, NO_PROJECTOR, POOLINGS

MAX_VOCABULARY_DIFFERENCE = 128
"""Words by which the two vocabularies of speculative decoding may differ in number, by llama.cpp's own rule."""

MAX_TEMPLATE_BYTES = 1024 * 1024
"""Bytes that a template may have."""


@dataclass(frozen=True, slots=True)
class CompanionFiles:
    """Each is empty or ``None`` where there is none; sizes in bytes."""

    projector: str = ""
    projector_bytes: int = 0
    draft: str = ""
    draft_file: Gguf | None = None
    template: str = ""


def find_companions(name: str, parameters: Mapping[str, Any], path: Path, file: Gguf) -> CompanionFiles:
    """What the parameters name, and a projector that lies in the model's folder and fits it.

    Raises `InvalidRequest` that names the parameter.
    """
    projector = _projector(name, parameters.get("mmproj"), path, file)
    draft = parameters.get("draft_model")
    draft_path = Path(draft).expanduser() if draft else None
    return CompanionFiles(
        projector=str(projector) if projector else "",
        projector_bytes=projector.stat().st_size if projector else 0,
        draft=str(draft_path) if draft_path else "",
        draft_file=_draft(name, draft_path, file) if draft_path else None,
        template=_template(name, parameters.get("chat_template_file")),
    )


def _projector(name: str, projector: str | None, path: Path, file: Gguf) -> Path | None:
    if projector == NO_PROJECTOR:
        return None
    if projector is not None:
        found_path = Path(projector).expanduser()
        header = _header(found_path, name, "mmproj")
        if header.architecture != "clip":
            raise InvalidRequest(
                f"{found_path} is not a projector (its architecture is '{header.architecture}', not 'clip'), so "
                f"'{name}' cannot see with it. Projectors are called mmproj-….gguf.",
                param="parameters.mmproj",
            )
        if not _sees(header, file):
            raise InvalidRequest(
                f"The projector {found_path} is for a model of another width than '{name}', which has "
                f"{file.embedding_length}. Take the one that was published with the model.",
                param="parameters.mmproj",
            )
        return found_path
    for candidate in sorted(path.parent.glob("*mmproj*.gguf")):
        try:
            if candidate != path and _sees(read_gguf(candidate), file):
                return candidate
        except PorticoError:
            continue  # somebody else's file, or half of one; nobody asked for it
    return None


def _sees(projector: Gguf, file: Gguf) -> bool:
    values = projector.values
    widths = [values.get(f"clip.{kind}.projection_dim") for kind in ("vision", "audio")]
    return file.embedding_length in [*widths, values.get("clip.projection_dim")]


def _draft(name: str, path: Path, file: Gguf) -> Gguf:
    header = _header(path, name, "draft_model")
    if header.truncated:
        raise InvalidRequest(
            f"The draft model {path} is cut short: fetch it again.", param="parameters.draft_model"
        )
    if abs(header.vocabulary - file.vocabulary) > MAX_VOCABULARY_DIFFERENCE:
        raise InvalidRequest(
            f"The draft model {path} has {header.vocabulary:,} words and '{name}' has {file.vocabulary:,}: it cannot "
            "guess for it. Take a smaller model of the same family.",
            param="parameters.draft_model",
        )
    return header


def _header(path: Path, name: str, key: str) -> Gguf:
    try:
        return read_gguf(path)
    except PorticoError as error:
        raise InvalidRequest(
            f"'{key}' of the model '{name}': {error.message}", param=f"parameters.{key}"
        ) from error


def _template(name: str, template: str | None) -> str:
    if template is None:
        return ""
    path = Path(template).expanduser()
    try:
        with path.open("rb") as buffered_reader:
            text = buffered_reader.read(MAX_TEMPLATE_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"The template {path} of the model '{name}' cannot be read: {error}.",
            param="parameters.chat_template_file",
        ) from error
    if len(text) > MAX_TEMPLATE_BYTES or not text.strip():
        raise InvalidRequest(
            f"The template {path} of the model '{name}' is {'larger than 1 MB' if text.strip() else 'empty'}.",
            param="parameters.chat_template_file",
        )
    return text


DEFAULT_SLOTS = 4
"""Calls that are worked on at the same time."""

CACHE_MEMORY_SHARE = 0.25
"""Part of the machine's memory that the key-value cache may take."""

CACHE_FLOOR, CACHE_FLOOR_SHARE = 512 * MB_BYTES, 0.02
"""Bytes, and part of the machine's memory, that the key-value cache may take even where the model is smaller: more
would be out of proportion."""

PROMPTS_SHARE, PROMPTS_MOST = 1 / 64, 512 * MB_BYTES
"""Part of the machine's memory, and the most of it in bytes, for prompts of earlier calls. llama.cpp's own default is
8 GB."""

BATCH_TOKENS = 512
"""Tokens that are computed at a time."""

PROCESS_BYTES = 60 * MB_BYTES
"""Bytes of a worker before its model: Python and llama.cpp's libraries. Measured: 35 to 70 MB."""

FULL_SLOT_TOKENS = 8_192
"""Tokens per slot above which a smaller context is better than fewer slots."""

MIN_CONTEXT_TOKENS = 512
"""Tokens; below this a context is of no use."""

EMBEDDING_ARCHITECTURES = (
    "bert",
    "nomic-bert",
    "nomic-bert-moe",
    "jina-bert-v2",
    "gemma-embedding",
    "t5encoder",
)

RANK_POOLING = "rank"
"""The pooling of a reranker: one score for a question and a text."""


@dataclass(frozen=True, slots=True)
class LlamaCppPlan:
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


def is_embedding_model(file: Gguf) -> bool:
    """Whether a file is an embedding model by its own words, or a reranker, which works like one."""
    return file.pooling in (*POOLINGS, RANK_POOLING) or file.architecture in EMBEDDING_ARCHITECTURES


def is_reranker(file: Gguf) -> bool:
    """Whether a file is a reranker by its own words."""
    return file.pooling == RANK_POOLING


def plan_gguf(
    file: Gguf,
    hardware: Hardware,
    parameters: Mapping[str, Any],
    *,
    embedding: bool,
    beside: CompanionFiles = CompanionFiles(),  # noqa: B008  # frozen
) -> LlamaCppPlan:
    """What fits: the model's own context for each slot, less of it or fewer slots where memory is short."""
    trained_tokens = int((file.context_length or 4_096) * (parameters.get("rope_scale") or 1))
    requested_tokens = parameters.get("context_length")
    wanted_tokens = (
        min(requested_tokens or trained_tokens, trained_tokens)
        if embedding
        else (requested_tokens or trained_tokens)
    )
    cache_type = parameters.get("cache_type") or "f16"
    draft = beside.draft_file
    draft_per_token = draft.kv_bytes_per_token if draft is not None else 0  # always in 16 bits
    per_token = max(1, int(file.kv_bytes_per_token * CACHE_TYPES[cache_type])) + draft_per_token
    slots = parameters.get("slots") or DEFAULT_SLOTS
    extra = beside.projector_bytes + (draft.file_size if draft is not None else 0)
    # A cache much larger than the model, or than two good contexts, would be paid for by everyone and filled by few.
    usual = 2 * min(wanted_tokens, FULL_SLOT_TOKENS) * per_token
    fair = max(CACHE_FLOOR, hardware.memory_bytes * CACHE_FLOOR_SHARE, file.file_size, usual)
    fixed_bytes = slots * _fixed_bytes(file, cache_type)
    remaining_bytes = (
        memory_allowance(hardware)
        - file.file_size
        - extra
        - fixed_bytes
        - PROCESS_BYTES
        - BATCH_TOKENS * _width(file) * 4
    )
    room = max(0, min(hardware.memory_bytes * CACHE_MEMORY_SHARE, fair, remaining_bytes))
    tokens = int(room) // per_token
    if requested_tokens is None:
        if parameters.get("slots") is None:
            while slots > 1 and tokens // slots < min(wanted_tokens, FULL_SLOT_TOKENS):
                slots //= 2
        wanted_tokens = min(wanted_tokens, max(MIN_CONTEXT_TOKENS, tokens // slots // 256 * 256))
    if embedding:
        # A text is one batch, and its compute buffer grows with it.
        wanted_tokens = min(wanted_tokens, FULL_SLOT_TOKENS)
    return LlamaCppPlan(
        embedding=embedding,
        slots=slots,
        context_length=wanted_tokens,
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


def chosen_parameters(cpp_plan: LlamaCppPlan) -> dict[str, Any]:
    """A plan's parameters by their names, for a person: those that are always of interest, and what is not usual."""
    always = {"context_length": cpp_plan.context_length, "slots": cpp_plan.slots, "threads": cpp_plan.threads}
    usual = LlamaCppPlan(False, 0, 0, 0)
    unusual = {
        name: getattr(cpp_plan, field)
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
        if getattr(cpp_plan, field) != getattr(usual, field)
    }
    return {**always, **unusual}


def memory_allowance(hardware: Hardware) -> int:
    """Bytes that models may have on a machine: what its GPU sees of the memory, where they share it."""
    shared_memory = [gpu.memory_bytes for gpu in hardware.gpus if gpu.shared]
    return min([int(hardware.memory_bytes * MEMORY_SHARE), *shared_memory])


def _fixed_bytes(file: Gguf, cache_type: str) -> int:
    """What a slot keeps whatever its context is: a window of tokens with a batch, and states."""
    window = file.window_tokens + BATCH_TOKENS if file.window_tokens else 0
    return int(window * file.window_bytes_per_token * CACHE_TYPES[cache_type]) + file.state_bytes


def _width(file: Gguf) -> int:
    """Numbers per token of a batch: a few hidden states are really touched, the scores are kept for few tokens."""
    return 16 * file.embedding_length


@dataclass(frozen=True, slots=True)
class LlamaCppMemory:
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


def memory_need(file: Gguf, cpp_plan: LlamaCppPlan) -> LlamaCppMemory:
    """How much memory a plan takes."""
    tokens = cpp_plan.slots * cpp_plan.context_length
    batch = cpp_plan.context_length if cpp_plan.embedding else BATCH_TOKENS
    return LlamaCppMemory(
        weights=file.file_size + cpp_plan.beside_bytes,
        cache=int(tokens * file.kv_bytes_per_token * CACHE_TYPES[cpp_plan.cache_type])
        + cpp_plan.slots * _fixed_bytes(file, cpp_plan.cache_type)
        + tokens * cpp_plan.draft_per_token,
        compute=batch * _width(file) * 4,
        process=PROCESS_BYTES,
        prompts=cpp_plan.prompts_mb * MB_BYTES,
    )
