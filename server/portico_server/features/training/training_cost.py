"""Estimates of the memory, disk space, work and time of a training setup. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from portico_server.core.base_models import BaseModel, Device
from portico_server.core.dataclass import dataclass
from portico_server.features.training.questions import TRAINED_NEGATIVE_COUNT
from portico_server.features.training.spec import RETRIEVAL_METHODS, Method

Kind: TypeAlias = Literal["lora", "qlora", "full"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
Sharding: TypeAlias = Literal["none", "ddp", "zero2", "zero3", "fsdp", "tensor"]

GB: Final = 1024**3

SEQUENCES: Final[Mapping[Method, int]] = {
    "dpo": 2,
    "embedding": 2 + TRAINED_NEGATIVE_COUNT,
    "rerank": 1 + TRAINED_NEGATIVE_COUNT,
}
"""Number of sequences per example, for methods with more than one."""

BYTES_PER_NUMBER: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes per number."""

PROCESS_BYTES: Final = {"cpu": int(0.8 * GB), "cuda": int(1.5 * GB)}
"""Memory that the libraries use before a model is loaded, in bytes."""

LORA_WIDTH_FACTOR: Final = 18
"""Total width of the inputs and outputs of a transformer block's seven linear layers, as a multiple of the hidden
size.
"""

_CORE_FLOPS: Final = 35e9
"""Speed of one CPU core with 32-bit floats, measured in training, in operations per second."""

_GPU_FLOPS: Final = ((10.0, 900e12), (9.0, 400e12), (8.9, 60e12), (8.6, 40e12), (8.0, 125e12), (7.0, 35e12))
"""Operations per second that a GPU achieves in training, by minimum compute capability.

About two fifths of the manufacturer's figures.
"""


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """The settings that determine how much memory training needs. ``completion`` is 0 unless the model generates text
    during training.
    """

    method: Method
    kind: Kind
    rank: int
    precision: Precision
    device: Literal["cpu", "cuda"]
    sharding: Sharding
    processes: int
    micro_batch: int
    length: int
    checkpointing: bool
    small_states: bool = False
    completion: int = 0
    tensor_parallel: int = 1

    @property
    def replicas(self) -> int:
        """Number of copies of the model that train on different examples."""
        return self.processes // self.tensor_parallel


def trainable_parameters(base: BaseModel, setup: TrainingSetup) -> int:
    """Return the number of trainable parameters."""
    if setup.kind == "full":
        return base.parameters
    return base.layers * setup.rank * LORA_WIDTH_FACTOR * base.hidden


def weight_bytes(base: BaseModel, setup: TrainingSetup) -> int:
    """Return the size of the weights on one device, in bytes."""
    width = BYTES_PER_NUMBER[setup.precision]
    if setup.kind == "qlora":
        # Each weight takes four bits and half a bit for scales; the embeddings are not quantized.
        embeddings = base.vocabulary * base.hidden
        size = int((base.parameters - min(embeddings, base.parameters)) * 0.56) + embeddings * 2
    else:
        size = base.parameters * width
    if setup.kind == "full" and width < 4:
        size = base.parameters * (4 + width)  # 32-bit weights for training, with a 16-bit copy for computing
    if setup.kind == "full" and setup.method in ("dpo", "reinforcement"):
        size *= 2  # the base model is loaded as well, for comparison
    return size // setup.processes if setup.sharding in ("zero3", "fsdp", "tensor") else size


def state_bytes(base: BaseModel, setup: TrainingSetup) -> int:
    """Return the size of gradients and optimiser state on one device, in bytes."""
    count = trainable_parameters(base, setup)
    own_bytes = (
        0 if setup.kind == "full" else 4
    )  # the weights counted above do not include the adapter's parameters
    gradient = 4
    size = count * (own_bytes + gradient + (2 if setup.small_states else 8))
    return size // setup.processes if setup.sharding in ("zero2", "zero3", "fsdp", "tensor") else size


def activation_bytes(base: BaseModel, setup: TrainingSetup) -> int:
    """Return the size of a micro batch's activations and logits, and of the cache for generation, in bytes."""
    width = BYTES_PER_NUMBER[setup.precision]
    sequences = setup.micro_batch * SEQUENCES.get(setup.method, 1)
    tokens = sequences * setup.length
    layer = 17 * width * base.hidden
    kept_bytes = (width * base.hidden * base.layers + layer) if setup.checkpointing else layer * base.layers
    # Logits in the model's precision and in 32 bits, with their gradient; TRL computes the logits of
    # generated answers in portions.
    logits = 0 if setup.method in RETRIEVAL_METHODS else base.vocabulary * (4 + 4 + width)
    cache = 2 * base.hidden * base.layers * width if setup.completion else 0
    gathered_bytes = 0
    if setup.sharding in ("zero3", "fsdp"):
        gathered_bytes = 2 * base.parameters * width // max(base.layers, 1)
    return tokens * (kept_bytes + logits + cache) + gathered_bytes


def memory_need(base: BaseModel, setup: TrainingSetup) -> int:
    """Return the memory needed on each device, or on the machine if it has no device, in bytes."""
    return (
        PROCESS_BYTES[setup.device]
        + weight_bytes(base, setup)
        + state_bytes(base, setup)
        + activation_bytes(base, setup)
    )


def disk_need(base: BaseModel, setup: TrainingSetup) -> int:
    """Return the disk space for the base model as safetensors, three checkpoints and the trained model, in bytes."""
    unpacked_bytes = base.parameters * 2 if base.format == "gguf" else 0
    checkpoint = trainable_parameters(base, setup) * (4 + (2 if setup.small_states else 8))
    return unpacked_bytes + 4 * checkpoint + GB // 8


def training_flops(cores: int, devices: tuple[Device, ...], processes: int) -> float:
    """Return the operations per second of all ``processes`` together on ``devices``."""
    if not devices:
        return cores * _CORE_FLOPS
    slowest = min(device.capability for device in devices)
    return next((speed for since, speed in _GPU_FLOPS if slowest >= since), 20e12) * processes


def training_seconds(base: BaseModel, setup: TrainingSetup, tokens: int, speed: float) -> float:
    """Return the seconds that ``tokens`` need at ``speed`` operations per second."""
    per_token = 6.0 if setup.kind == "full" else 4.0
    per_token += 2.0 if setup.checkpointing else 0.0
    per_token *= 1.6 if setup.method in ("dpo", "reinforcement") else 1.0
    if setup.completion:
        per_token += 10.0  # generation produces one token after another, which is slower than reading
    return tokens * base.parameters * per_token / speed
