"""Exports adapters as safetensors or GGUF, either unchanged or merged into their models."""

from __future__ import annotations

import errno
import os
import shutil
import struct
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias
from uuid import uuid4

from portico.wire import Progressed
from portico_server.core import pools
from portico_server.core.base_models import BaseModel, BaseModels, TrainingEnvironment
from portico_server.core.context import Context
from portico_server.core.dataclass import dataclass
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.relay import AdapterScale
from portico_server.environments.uv import StepFailedError, StepReport, run_step
from portico_server.models.adapters import gguf_adapter, peft
from portico_server.models.adapters.peft import LoraPair, PeftAdapter, Safetensors
from portico_server.models.adapters.service import AdapterService
from portico_server.models.gguf_conversion import CONVERTER, CONVERTER_PATH
from portico_server.runs.scheduler import Scheduler
from portico_server.subprocesses import OFFLINE_ENVIRONMENT, run_module

if TYPE_CHECKING:
    from portico_server.models.adapters.peft import Array


# Merging an adapter into its model results in a folder of safetensors that no longer needs the adapter.
# Blocks. Source: Hu et al. 2021, section 4.1: W = W₀ + scaling · B · A.


_CHUNK_BYTES = 8 * 1024 * 1024

_LEFT_OUT = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
"""Suffixes of weight files that are not copied to a merged model. Formats other than safetensors are not merged, so
such files would still contain the old weights.
"""


def merge_adapter(base: Path, adapter: Path, target: Path, *, scale: float = 1.0) -> None:
    """Merge a PEFT adapter into the model in ``base``, and write the result to the new folder ``target``, completely
    or not at all.

    The numbers keep the format that they have in ``base``. Only one tensor at a time is in memory. Raises
    `InvalidRequest` if the adapter does not fit or the model is quantised, `Conflict` if ``target`` exists, and
    `Unavailable` if the disk is full.
    """
    peft_adapter = peft.read_peft(adapter)
    if target.exists():
        raise Conflict(f"{target} already exists. Choose another path, or remove it.", param="target")
    shards = [peft.read_safetensors(path) for path in sorted(base.glob("*.safetensors"))]
    pairs = {_weight(shards, peft_adapter, pair): pair for pair in peft_adapter.pairs}
    draft = target.with_name(f".{target.name}.{uuid4().hex}.new")
    try:
        draft.mkdir(parents=True)
        for path in base.iterdir():
            if path.is_file() and path.suffix not in _LEFT_OUT:
                shutil.copyfile(path, draft / path.name)
        for shard in shards:
            _write(shard, peft_adapter, pairs, draft / shard.path.name, scale)
        draft.rename(target)
    except OSError as error:
        full = error.errno == errno.ENOSPC
        reason = "the disk is full" if full else error.strerror or str(error)
        raise Unavailable(
            f"The merged model cannot be written to {target}: {reason}.",
            code="disk_full" if full else "unavailable",
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _weight(shards: list[Safetensors], adapter: PeftAdapter, pair: LoraPair) -> str:
    """Return the name of the tensor to which a pair of matrices is added."""
    name = f"{pair.module}.weight"
    tensor = next((shard.tensors[name] for shard in shards if name in shard.tensors), None)
    if tensor is None:
        raise InvalidRequest(
            f"The adapter {adapter.folder} adapts '{pair.module}', but the model has no unquantised weights "
            "of that name. Merge it into the original, unquantised model.",
            code="adapter_invalid",
            param="base",
        )
    if tensor.dtype not in peft.FLOAT_WIDTHS or tensor.shape != (pair.outputs, pair.inputs):
        raise InvalidRequest(
            f"The adapter {adapter.folder} does not fit: '{name}' is {list(tensor.shape)} of {tensor.dtype} "
            f"in the model, but {[pair.outputs, pair.inputs]} in the adapter.",
            code="adapter_invalid",
            param="base",
        )
    return name


def _write(
    shard: Safetensors, adapter: PeftAdapter, pairs: dict[str, LoraPair], path: Path, scale: float
) -> None:
    """Write a merged shard with the same tensors in the same order and format."""
    with shard.path.open("rb") as source, path.open("wb") as output:
        (length,) = struct.unpack("<Q", source.read(8))
        output.write(struct.pack("<Q", length) + source.read(length))
        output.truncate(shard.size)
        for name, tensor in shard.tensors.items():
            output.seek(tensor.start)
            pair = pairs.get(name)
            if pair is not None:
                ndarray = shard.array(name) + _delta(adapter, pair, scale)
                output.write(peft.pack_floats(ndarray, tensor.dtype))
                continue
            source.seek(tensor.start)
            remaining_bytes = tensor.end - tensor.start
            while remaining_bytes:
                data = source.read(min(remaining_bytes, _CHUNK_BYTES))
                output.write(data)
                remaining_bytes -= len(data)
        output.flush()
        os.fsync(output.fileno())


def _delta(adapter: PeftAdapter, pair: LoraPair, scale: float) -> Array:
    import numpy as np

    a, b = adapter.file.array(pair.a), adapter.file.array(pair.b)
    delta: Array = np.float32(scale * pair.scaling) * (b @ a)
    return delta


EXPORT_RUN_KIND: Final = "adapter_export"
"""Kind of the runs that export adapters."""

ExportForm: TypeAlias = Literal["safetensors", "gguf"]

BITS_PER_NUMBER: Final[Mapping[str, float]] = {
    "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q6_k": 6.6, "q5_k_m": 5.7, "q5_k_s": 5.6, "q5_1": 6, "q5_0": 5.5,
    "q4_k_m": 4.9, "q4_k_s": 4.6, "q4_1": 5, "q4_0": 4.6,
}  # fmt: skip
"""Number types of a merged GGUF file, with their approximate bits per number."""

MIN_FREE_BYTES: Final = 64 * 1024 * 1024
"""Number of bytes that must remain free on the disk."""


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """An adapter to export: the target path, the format, and whether the adapter is merged into its model.

    ``type`` is the number type of a GGUF file.
    """

    name: str
    path: str
    merged: bool = False
    form: ExportForm = "safetensors"
    type: str = "f16"


class AdapterExports:
    """Exports adapters to paths on this machine, in durable runs."""

    def __init__(
        self,
        scheduler: Scheduler,
        adapters: AdapterService,
        bases: BaseModels,
        environment: TrainingEnvironment,
    ) -> None:
        self._scheduler = scheduler
        self._adapters = adapters
        self._bases = bases
        self._environment = environment
        scheduler.handle(EXPORT_RUN_KIND, self._export)

    async def begin(self, export_request: ExportRequest, caller: Principal) -> str:
        """Start an export run, and return its id. Raises `NotFound`, `InvalidRequest`, `Conflict` if the target
        exists.
        """
        export_request = replace(export_request, name=self._adapters.get(export_request.name).name)
        kind = export_request.type.lower()
        if kind not in BITS_PER_NUMBER:
            raise InvalidRequest(
                f"'{export_request.type}' is not a valid type; choose one of {', '.join(BITS_PER_NUMBER)}.",
                param="type",
            )
        export_request = replace(export_request, type=kind)
        await pools.MODELS.run(_check_place, Path(export_request.path))
        return await self._scheduler.ensure(
            EXPORT_RUN_KIND,
            f"{export_request.name} to {export_request.path}",
            asdict(export_request),
            caller=caller,
        )

    async def _export(self, payload: Mapping[str, Any], context: Context) -> Any:
        export_request = ExportRequest(**payload)
        info, adapter = self._adapters.get(export_request.name), self._adapters.files(export_request.name)
        target = Path(export_request.path)
        await pools.MODELS.run(_check_place, target)
        base = await self._bases.base(info.base, SYSTEM)

        async def report(stage: str, words: str) -> None:
            await context.emit(Progressed(stage, words))

        if export_request.form == "gguf" and base.format != "gguf":
            raise InvalidRequest(
                f"'{base.name}' is not a GGUF model, so its adapters cannot be exported as GGUF. Export as "
                "safetensors, and convert the result with llama.cpp's convert_hf_to_gguf.py.",
                code="export_unsupported",
                param="format",
            )
        if export_request.form == "safetensors" and not adapter.path.is_dir():
            raise InvalidRequest(
                f"'{export_request.name}' was not imported as a PEFT folder, so it cannot be exported as "
                "safetensors. Export it as GGUF.",
                code="export_unsupported",
                param="format",
            )
        if not export_request.merged:
            await pools.MODELS.run(_copy, adapter, base, target, export_request.form)
        elif export_request.form == "safetensors":
            await self._merge(adapter, base, target, report)
        else:
            await self._fold(adapter, base, target, export_request.type, report)
        size = await pools.MODELS.run(_size, target)
        return {"name": export_request.name, "path": str(target), "bytes": size}

    async def _merge(self, adapter: AdapterScale, base: BaseModel, target: Path, report: StepReport) -> None:
        python = await self._environment.interpreter(report)
        folder = await self._environment.folder(base, python, report)
        await pools.MODELS.run(_check_room, target, await pools.MODELS.run(_size, folder))
        await report("merge", f"Folding '{adapter.name}' into '{base.name}'")
        await pools.MODELS.run(merge_adapter, folder, adapter.path, target, scale=adapter.scale)

    async def _fold(
        self, adapter: AdapterScale, base: BaseModel, target: Path, kind: str, report: StepReport
    ) -> None:
        # In small models, more tensors stay in 8 bits than the number type suggests.
        needed_bytes = int(base.parameters * max(BITS_PER_NUMBER[kind], 8.5) / 8)
        await pools.MODELS.run(_check_room, target, needed_bytes)
        header = await pools.MODELS.run(gguf_adapter.GgufBase.read, base.path)
        output = await pools.MODELS.run(gguf_adapter.prepare_gguf_adapter, adapter.path, header)
        python = await self._environment.interpreter(report)
        await report("merge", f"Folding '{adapter.name}' into '{base.name}'")
        command = run_module(CONVERTER, "fold", str(base.path), str(output), str(target), python=python)
        command += ["--type", kind, "--scale", str(adapter.scale)]
        environment = {**OFFLINE_ENVIRONMENT, "PYTHONPATH": str(CONVERTER_PATH)}
        try:
            await run_step(command, "merge", report, folder=target.parent, env=environment)
        except StepFailedError as error:
            raise Unavailable(
                f"'{adapter.name}' could not be merged into '{base.name}': {error.message}",
                code="export_failed",
            ) from error


def _check_place(target: Path) -> None:
    if not target.is_absolute():
        raise InvalidRequest(
            f"'path' must be an absolute path on the daemon's machine, not '{target}'.", param="path"
        )
    if not target.parent.is_dir():
        raise NotFound(f"The folder {target.parent} does not exist.", param="path")
    if target.exists():
        raise Conflict(f"{target} already exists. Choose another path, or remove it.", param="path")


def _check_room(target: Path, needed_bytes: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed_bytes + MIN_FREE_BYTES:
        raise Unavailable(
            f"The export needs {needed_bytes / 1000000000.0:.1f} GB, but {target.parent} has only "
            f"{free / 1000000000.0:.1f} GB free.",
            code="disk_full",
        )


def _copy(adapter: AdapterScale, base: BaseModel, target: Path, form: ExportForm) -> None:
    """Copy the adapter alone, without its model, completely or not at all."""
    draft = target.with_name(f".{target.name}.{uuid4().hex}.new")
    try:
        if form == "gguf":
            shutil.copyfile(
                gguf_adapter.prepare_gguf_adapter(adapter.path, gguf_adapter.GgufBase.read(base.path)), draft
            )
        else:
            draft.mkdir()
            for name in (peft.CONFIG, peft.WEIGHTS):
                shutil.copyfile(adapter.path / name, draft / name)
        os.rename(draft, target)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft, ignore_errors=True)
        else:
            draft.unlink(missing_ok=True)


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
