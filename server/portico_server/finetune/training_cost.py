"""Memory, disk, work and time of a training, for a setup. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from portico_server.core.base_models import BaseModel, Device
from portico_server.core.dataclass import dataclass
from portico_server.finetune.questions import TRAINED_NEGATIVE_COUNT
from portico_server.finetune.spec import RETRIEVAL_METHODS, Method

Kind: TypeAlias = Literal["lora", "qlora", "full"]
Precision: TypeAlias = Literal["float32", "bfloat16", "float16"]
Sharding: TypeAlias = Literal["none", "ddp", "zero2", "zero3", "fsdp", "tensor"]

GB: Final = 1024**3

SEQUENCES: Final[Mapping[Method, int]] = {
    "dpo": 2,
    "embedding": 2 + TRAINED_NEGATIVE_COUNT,
    "rerank": 1 + TRAINED_NEGATIVE_COUNT,
}
"""Sequences that an example is, where it is more than one."""

BYTES_PER_NUMBER: Final = {"float32": 4, "bfloat16": 2, "float16": 2}
"""Bytes of a number."""

PROCESS_BYTES: Final = {"cpu": int(0.8 * GB), "cuda": int(1.5 * GB)}
"""What the libraries take before a model is there."""

LORA_WIDTH_FACTOR: Final = 18
"""Inputs and outputs of the seven linear layers of a block, in hidden sizes."""

_CORE_FLOPS: Final = 35e9
"""Of one core in 32 bits, as measured in training."""

_GPU_FLOPS: Final = ((10.0, 900e12), (9.0, 400e12), (8.9, 60e12), (8.6, 40e12), (8.0, 125e12), (7.0, 35e12))
"""What training gets of a GPU from a compute capability on: about two fifths of what its maker says."""


@dataclass(frozen=True, slots=True)
class TrainingSetup:
    """The settings that decide on memory. ``completion`` is 0 unless the model writes during training."""

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
        """How many copies of the model learn from examples of their own."""
        return self.processes // self.tensor_parallel


def trainable_parameters(base: BaseModel, setup: TrainingSetup) -> int:
    """How many numbers are trained."""
    if setup.kind == "full":
        return base.parameters
    return base.layers * setup.rank * LORA_WIDTH_FACTOR * base.hidden


def weight_bytes(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes of the weights on one device."""
    width = BYTES_PER_NUMBER[setup.precision]
    if setup.kind == "qlora":
        # Four bits, half a bit of scales, and the embeddings as they were.
        embeddings = base.vocabulary * base.hidden
        size = int((base.parameters - min(embeddings, base.parameters)) * 0.56) + embeddings * 2
    else:
        size = base.parameters * width
    if setup.kind == "full" and width < 4:
        size = base.parameters * (4 + width)  # trained in 32 bits, and a copy in 16 to compute with
    if setup.kind == "full" and setup.method in ("dpo", "reinforcement"):
        size *= 2  # the base beside it, to be compared with
    return size // setup.processes if setup.sharding in ("zero3", "fsdp", "tensor") else size


def state_bytes(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes of gradients and optimiser, on one device."""
    count = trainable_parameters(base, setup)
    own_bytes = 0 if setup.kind == "full" else 4  # the adapter's own numbers are not among the weights
    gradient = 4
    size = count * (own_bytes + gradient + (2 if setup.small_states else 8))
    return size // setup.processes if setup.sharding in ("zero2", "zero3", "fsdp", "tensor") else size


def activation_bytes(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes of what one micro batch leaves for the way back, its logits, and the cache of what is written."""
    width = BYTES_PER_NUMBER[setup.precision]
    sequences = setup.micro_batch * SEQUENCES.get(setup.method, 1)
    tokens = sequences * setup.length
    layer = 17 * width * base.hidden
    kept_bytes = (width * base.hidden * base.layers + layer) if setup.checkpointing else layer * base.layers
    # Logits in the model's numbers, in 32 bits, and their gradient; TRL cuts those of written answers to pieces.
    logits = 0 if setup.method in RETRIEVAL_METHODS else base.vocabulary * (4 + 4 + width)
    cache = 2 * base.hidden * base.layers * width if setup.completion else 0
    gathered_bytes = 0
    if setup.sharding in ("zero3", "fsdp"):
        gathered_bytes = 2 * base.parameters * width // max(base.layers, 1)
    return tokens * (kept_bytes + logits + cache) + gathered_bytes


def memory_need(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes on each device, or of the machine's memory if there is none."""
    return (
        PROCESS_BYTES[setup.device]
        + weight_bytes(base, setup)
        + state_bytes(base, setup)
        + activation_bytes(base, setup)
    )


def disk_need(base: BaseModel, setup: TrainingSetup) -> int:
    """Bytes that the base as safetensors, three checkpoints and the result take."""
    unpacked_bytes = base.parameters * 2 if base.format == "gguf" else 0
    checkpoint = trainable_parameters(base, setup) * (4 + (2 if setup.small_states else 8))
    return unpacked_bytes + 4 * checkpoint + GB // 8


def training_flops(cores: int, devices: tuple[Device, ...], processes: int) -> float:
    """Operations a second that training gets, of all ``processes`` together; ``devices`` are those it is on."""
    if not devices:
        return cores * _CORE_FLOPS
    slowest = min(device.capability for device in devices)
    return next((speed for since, speed in _GPU_FLOPS if slowest >= since), 20e12) * processes


def training_seconds(base: BaseModel, setup: TrainingSetup, tokens: int, speed: float) -> float:
    """How long ``tokens`` take at ``speed`` operations a second."""
    per_token = 6.0 if setup.kind == "full" else 4.0
    per_token += 2.0 if setup.checkpointing else 0.0
    per_token *= 1.6 if setup.method in ("dpo", "reinforcement") else 1.0
    if setup.completion:
        per_token += 10.0  # written one token after another, which a machine does worse than reading
    return tokens * base.parameters * per_token / speed
