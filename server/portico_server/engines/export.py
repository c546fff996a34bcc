"""Adapters on their way out: as they are, or folded into their model, as safetensors or GGUF."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

from portico.wire import Status
from portico_server.core import pools
from portico_server.core.context import Context
from portico_server.core.errors import Conflict, InvalidRequest, NotFound, Unavailable
from portico_server.core.interfaces import BaseModel, BaseModels, TrainingEnvironment
from portico_server.core.principal import SYSTEM, Principal
from portico_server.core.relay import AdapterScale
from portico_server.engines.adapters import gguf_adapter, merge, peft
from portico_server.engines.adapters.adapters import Adapters
from portico_server.engines.guest.quiet import QUIET
from portico_server.environments.uv import Report, StepFailedError, step
from portico_server.runs.scheduler import Scheduler
from portico_server.subprocesses import run_module

KIND: Final = "adapter_export"
"""Kind of the runs that export."""

Form: TypeAlias = Literal["safetensors", "gguf"]

BITS: Final[Mapping[str, float]] = {
    "f32": 32, "f16": 16, "bf16": 16, "q8_0": 8.5, "q6_k": 6.6, "q5_k_m": 5.7, "q5_k_s": 5.6, "q5_1": 6, "q5_0": 5.5,
    "q4_k_m": 4.9, "q4_k_s": 4.6, "q4_1": 5, "q4_0": 4.6,
}  # fmt: skip
"""What the numbers of a merged GGUF file can be written as, with the bits that one of them takes about."""

WORKER: Final = Path(__file__).parent / "transformers" / "worker"
"""The package that reads and writes GGUF files, in an environment that has what it needs."""

SPARE: Final = 64 * 1024 * 1024
"""Bytes that stay free on the disk."""


@dataclass(frozen=True, slots=True)
class Wish:
    """An adapter, where it is to be written, whether its model comes with it, and in which form.

    ``type`` is what the numbers of a GGUF file are written as.
    """

    name: str
    path: str
    merged: bool = False
    form: Form = "safetensors"
    type: str = "f16"


class Exports:
    """Writes adapters to places on this machine, in durable runs."""

    def __init__(
        self, scheduler: Scheduler, adapters: Adapters, bases: BaseModels, workshop: TrainingEnvironment
    ) -> None:
        self._scheduler = scheduler
        self._adapters = adapters
        self._bases = bases
        self._workshop = workshop
        scheduler.handle(KIND, self._export)

    async def begin(self, wish: Wish, caller: Principal) -> str:
        """Export in a run; its id. Raises `NotFound`, `InvalidRequest`, `Conflict` if there is something already."""
        wish = replace(wish, name=self._adapters.get(wish.name).name)
        kind = wish.type.lower()
        if kind not in BITS:
            raise InvalidRequest(f"'{wish.type}' is not a type; there are {', '.join(BITS)}.", param="type")
        wish = replace(wish, type=kind)
        await pools.MODELS.run(_check_place, Path(wish.path))
        return await self._scheduler.ensure(KIND, f"{wish.name} to {wish.path}", asdict(wish), caller=caller)

    async def _export(self, payload: Mapping[str, Any], context: Context) -> Any:
        wish = Wish(**payload)
        info, adapter = self._adapters.get(wish.name), self._adapters.files(wish.name)
        target = Path(wish.path)
        await pools.MODELS.run(_check_place, target)
        base = await self._bases.base(info.base, SYSTEM)

        async def report(stage: str, words: str) -> None:
            await context.emit(Status(stage, words))

        if wish.form == "gguf" and base.format != "gguf":
            raise InvalidRequest(
                f"'{base.name}' is no GGUF model, so nothing is made GGUF of it here. Export it as safetensors; "
                "llama.cpp's convert_hf_to_gguf.py takes that.",
                code="export_unsupported",
                param="format",
            )
        if wish.form == "safetensors" and not adapter.path.is_dir():
            raise InvalidRequest(
                f"'{wish.name}' did not come as a PEFT folder, so there are no safetensors of it. Export it as GGUF.",
                code="export_unsupported",
                param="format",
            )
        if not wish.merged:
            await pools.MODELS.run(_copy, adapter, base, target, wish.form)
        elif wish.form == "safetensors":
            await self._merge(adapter, base, target, report)
        else:
            await self._fold(adapter, base, target, wish.type, report)
        size = await pools.MODELS.run(_size, target)
        return {"name": wish.name, "path": str(target), "bytes": size}

    async def _merge(self, adapter: AdapterScale, base: BaseModel, target: Path, report: Report) -> None:
        python = await self._workshop.interpreter(report)
        folder = await self._workshop.folder(base, python, report)
        await pools.MODELS.run(_check_room, target, await pools.MODELS.run(_size, folder))
        await report("merge", f"Folding '{adapter.name}' into '{base.name}'")
        await pools.MODELS.run(merge.merge, folder, adapter.path, target, scale=adapter.scale)

    async def _fold(
        self, adapter: AdapterScale, base: BaseModel, target: Path, kind: str, report: Report
    ) -> None:
        # Small models keep more of their tensors in 8 bits than the type says.
        needed = int(base.parameters * max(BITS[kind], 8.5) / 8)
        await pools.MODELS.run(_check_room, target, needed)
        header = await pools.MODELS.run(gguf_adapter.Base.read, base.path)
        made = await pools.MODELS.run(gguf_adapter.for_llamacpp, adapter.path, header)
        python = await self._workshop.interpreter(report)
        await report("merge", f"Folding '{adapter.name}' into '{base.name}'")
        command = run_module(WORKER.name, "fold", str(base.path), str(made), str(target), python=python)
        command += ["--type", kind, "--scale", str(adapter.scale)]
        environment = {**QUIET, "PYTHONPATH": str(WORKER.parent)}
        try:
            await step(command, "merge", report, folder=target.parent, env=environment)
        except StepFailedError as error:
            raise Unavailable(
                f"'{adapter.name}' could not be folded into '{base.name}': {error.message}",
                code="export_failed",
            ) from error


def _check_place(target: Path) -> None:
    if not target.is_absolute():
        raise InvalidRequest(
            f"'path' must be an absolute path on the daemon's machine, not '{target}'.", param="path"
        )
    if not target.parent.is_dir():
        raise NotFound(f"There is no folder {target.parent} to export to.", param="path")
    if target.exists():
        raise Conflict(f"There is a {target} already. Choose another place, or remove it.", param="path")


def _check_room(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < needed + SPARE:
        raise Unavailable(
            f"The export takes {needed / 1e9:.1f} GB, and {target.parent} has {free / 1e9:.1f} GB.",
            code="disk_full",
        )


def _copy(adapter: AdapterScale, base: BaseModel, target: Path, form: Form) -> None:
    """The adapter alone, whole or not there."""
    draft = target.with_name(f".{target.name}.{uuid4().hex}.new")
    try:
        if form == "gguf":
            shutil.copyfile(gguf_adapter.for_llamacpp(adapter.path, gguf_adapter.Base.read(base.path)), draft)
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
    return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
