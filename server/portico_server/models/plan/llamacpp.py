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
"""Maximum difference between the vocabulary sizes of model and draft model in speculative decoding: llama.cpp's
own rule.
"""

MAX_TEMPLATE_BYTES = 1024 * 1024
"""Maximum size of a template, in bytes."""


@dataclass(frozen=True, slots=True)
class CompanionFiles:
    """The files that are loaded together with a model; each is empty or ``None`` if absent. Sizes are in bytes."""

    projector: str = ""
    projector_bytes: int = 0
    draft: str = ""
    draft_file: Gguf | None = None
    template: str = ""


def find_companions(name: str, parameters: Mapping[str, Any], path: Path, file: Gguf) -> CompanionFiles:
    """Return the companion files that the parameters name, and a matching projector in the model's folder.

    Raise `InvalidRequest` that names the parameter.
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
                f"{found_path} is not a projector (its architecture is '{header.architecture}', not 'clip'), "
                f"so '{name}' cannot read images with it. Projectors are named mmproj-….gguf.",
                param="parameters.mmproj",
            )
        if not _sees(header, file):
            raise InvalidRequest(
                f"The projector {found_path} is for a model of another width than '{name}', whose width is "
                f"{file.embedding_length}. Use the projector that was published with the model.",
                param="parameters.mmproj",
            )
        return found_path
    for candidate in sorted(path.parent.glob("*mmproj*.gguf")):
        try:
            if candidate != path and _sees(read_gguf(candidate), file):
                return candidate
        except PorticoError:
            continue  # an unrelated or incomplete file, which the user did not name
    return None


def _sees(projector: Gguf, file: Gguf) -> bool:
    values = projector.values
    widths = [values.get(f"clip.{kind}.projection_dim") for kind in ("vision", "audio")]
    return file.embedding_length in [*widths, values.get("clip.projection_dim")]


def _draft(name: str, path: Path, file: Gguf) -> Gguf:
    header = _header(path, name, "draft_model")
    if header.truncated:
        raise InvalidRequest(
            f"The draft model {path} is truncated: fetch it again.", param="parameters.draft_model"
        )
    if abs(header.vocabulary - file.vocabulary) > MAX_VOCABULARY_DIFFERENCE:
        raise InvalidRequest(
            f"The draft model {path} has a vocabulary of {header.vocabulary:,} tokens and '{name}' one of "
            f"{file.vocabulary:,}, so they are incompatible. Use a smaller model of the same family.",
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
"""Number of concurrent calls."""

CACHE_MEMORY_SHARE = 0.25
"""Share of the machine's memory that the key-value cache can use."""

CACHE_FLOOR, CACHE_FLOOR_SHARE = 512 * MB_BYTES, 0.02
"""Bytes, and share of the machine's memory, that the key-value cache can use even if the model is smaller.

A larger cache would be out of proportion to the model.
"""

PROMPTS_SHARE, PROMPTS_MOST = 1 / 64, 512 * MB_BYTES
"""Share of the machine's memory, and maximum bytes, for cached prompts of earlier calls.

llama.cpp's own default is 8 GB.
"""

BATCH_TOKENS = 512
"""Number of tokens computed in one batch."""

PROCESS_BYTES = 60 * MB_BYTES
"""Memory of a worker before it loads its model, in bytes: Python and llama.cpp's libraries. Measured: 35 to 70 MB."""

FULL_SLOT_TOKENS = 8_192
"""Tokens per slot above which Portico shortens the context rather than using fewer slots."""

EMBEDDING_SHARE = 1 / 8
"""Share of the machine's memory that the longest text of an embedding model can use."""

MIN_CONTEXT_TOKENS = 512
"""Minimum useful context, in tokens."""

EMBEDDING_ARCHITECTURES = (
    "bert",
    "nomic-bert",
    "nomic-bert-moe",
    "jina-bert-v2",
    "gemma-embedding",
    "modern-bert",
    "t5encoder",
)

RANK_POOLING = "rank"
"""Pooling of a reranker: one score for a question and a text."""


@dataclass(frozen=True, slots=True)
class LlamaCppPlan:
    """How llama.cpp runs a model.

    ``context_length`` is per slot, in tokens; ``gpu_layers`` -1 means as many as fit. ``prompts_mb`` is for cached
    prompts of earlier calls; ``cache_type`` is the number format of the key-value cache. ``projector`` and ``draft``
    are paths. Together, these files use ``beside_bytes``; the draft's cache uses ``draft_per_token`` bytes per token.
    A 0 or an empty text leaves a choice to llama.cpp.
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
    """Return whether a file declares itself an embedding model or a reranker, which runs like an embedding model."""
    return file.pooling in (*POOLINGS, RANK_POOLING) or file.architecture in EMBEDDING_ARCHITECTURES


def is_reranker(file: Gguf) -> bool:
    """Return whether a file declares itself a reranker."""
    return file.pooling == RANK_POOLING


def plan_gguf(
    file: Gguf,
    hardware: Hardware,
    parameters: Mapping[str, Any],
    *,
    embedding: bool,
    beside: CompanionFiles = CompanionFiles(),  # noqa: B008  # frozen
) -> LlamaCppPlan:
    """Return a plan that fits. Each slot gets the model's own context; if memory is short, less context or fewer
    slots.
    """
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
    # A cache much larger than the model, or than two good contexts, would cost memory for every model, and
    # few models would fill it.
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
        # A text is computed as one batch, and the compute buffer grows with the batch.
        wanted_tokens = min(wanted_tokens, FULL_SLOT_TOKENS)
        if requested_tokens is None:
            batch_tokens = int(hardware.memory_bytes * EMBEDDING_SHARE) // _score_bytes(file)
            wanted_tokens = min(wanted_tokens, max(MIN_CONTEXT_TOKENS, batch_tokens // 256 * 256))
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
    """Return a plan's parameters by name, for people: the most important ones, and those with unusual values."""
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
    """Return the bytes available to models on a machine. If a GPU shares the memory, this is at most the GPU's part."""
    shared_memory = [gpu.memory_bytes for gpu in hardware.gpus if gpu.shared]
    return min([int(hardware.memory_bytes * MEMORY_SHARE), *shared_memory])


def _fixed_bytes(file: Gguf, cache_type: str) -> int:
    """Return the bytes that a slot needs regardless of its context.

    They are for a sliding window plus a batch, and for the states of layers without a cache.
    """
    window = file.window_tokens + BATCH_TOKENS if file.window_tokens else 0
    return int(window * file.window_bytes_per_token * CACHE_TYPES[cache_type]) + file.state_bytes


def _score_bytes(file: Gguf) -> int:
    """Return the bytes of the scores over the vocabulary that llama.cpp keeps for each token of an embedded text."""
    return max(1, file.vocabulary) * 4


def _width(file: Gguf) -> int:
    """Return how many numbers each token of a batch needs.

    Of the hidden states, only a few are really touched, and the scores are kept for few tokens.
    """
    return 16 * file.embedding_length


@dataclass(frozen=True, slots=True)
class LlamaCppMemory:
    """Memory in bytes, by purpose. ``prompts`` is used only as calls arrive."""

    weights: int
    cache: int
    compute: int
    process: int
    prompts: int

    @property
    def total(self) -> int:
        """Return the memory that is certainly used: everything except the prompts of earlier calls."""
        return self.weights + self.cache + self.compute + self.process


def memory_need(file: Gguf, cpp_plan: LlamaCppPlan) -> LlamaCppMemory:
    """Return the memory that a plan needs."""
    tokens = cpp_plan.slots * cpp_plan.context_length
    batch = cpp_plan.context_length if cpp_plan.embedding else BATCH_TOKENS
    return LlamaCppMemory(
        weights=file.file_size + cpp_plan.beside_bytes,
        cache=int(tokens * file.kv_bytes_per_token * CACHE_TYPES[cpp_plan.cache_type])
        + cpp_plan.slots * _fixed_bytes(file, cpp_plan.cache_type)
        + tokens * cpp_plan.draft_per_token,
        compute=batch * (_width(file) * 4 + (_score_bytes(file) if cpp_plan.embedding else 0)),
        process=PROCESS_BYTES,
        prompts=cpp_plan.prompts_mb * MB_BYTES,
    )
