"""LoRA adapters of a model: loaded and unloaded while it runs, at most one per call.

The endpoints are those of vLLM: ``/v1/load_lora_adapter`` and ``/v1/unload_lora_adapter``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .caller import Caller
from .errors import Refusal, UnusableModel
from .folder import read_document
from .model_queue import ModelQueue

WEIGHTS_FILE = "adapter_model.safetensors"


class LoadedAdapters:
    """The adapters of ``model``, keyed by the name that requests use. The model's own name selects no adapter."""

    def __init__(self, model: Any, name: str, turns: ModelQueue) -> None:
        self._model = model
        self._base = name
        self._turns = turns
        self._ids: dict[str, str] = {}
        self._layers: dict[str, list[tuple[dict[str, float], float]]] = {}
        self._numbers = itertools.count(1)

    @property
    def names(self) -> list[str]:
        return list(self._ids)

    def routes(self) -> dict[str, Any]:
        return {"/v1/load_lora_adapter": self.load, "/v1/unload_lora_adapter": self.unload}

    def load(self, body: Mapping[str, Any], client: Caller) -> dict[str, Any]:
        """Load ``lora_name`` from ``lora_path``, a PEFT folder. Raise `Refusal` if the name is already in use."""
        name, path = body.get("lora_name"), body.get("lora_path")
        if not isinstance(name, str) or not isinstance(path, str) or not name or not path:
            raise Refusal("'lora_name' and 'lora_path' must be text.", param="lora_path")
        if name in self._ids or name == self._base:
            raise Refusal(f"An adapter or a model '{name}' already exists.", "adapter_exists", "lora_name")
        folder = Path(path)
        self._check(folder)
        # PEFT does not allow dots in a name, because the name becomes part of layer names.
        identifier = f"adapter{next(self._numbers)}"
        with self._turns.turn(client.has_left):
            try:
                report = self._model.load_adapter(
                    str(folder), adapter_name=identifier, use_safetensors=True, hotswap=False
                )
                unmatched_names = [
                    *getattr(report, "unexpected_keys", ()),
                    *(key for key, *_ in report.mismatched_keys),
                ]
                if unmatched_names:
                    raise ValueError(
                        f"it has weights for layers that the model does not have: {unmatched_names[0]}"
                    )
            except (ValueError, RuntimeError, KeyError, OSError, TypeError) as error:
                self._forget(identifier)
                words = " ".join(str(error).split())[:400]
                raise Refusal(
                    f"The adapter in {path} does not fit '{self._base}': {words}", "adapter_unfit"
                ) from error
            self._model.disable_adapters()
            scalings = [getattr(module, "scaling", None) for module in self._model.modules()]
            self._layers[identifier] = [
                (scaling, scaling[identifier])
                for scaling in scalings
                if isinstance(scaling, dict) and identifier in scaling
            ]
            self._ids[name] = identifier
        return {"loaded": name}

    def unload(self, body: Mapping[str, Any], client: Caller) -> dict[str, Any]:
        """Unload the adapter ``lora_name``."""
        name = body.get("lora_name")
        if name not in self._ids:
            raise Refusal(
                f"The adapter '{name}' does not exist.", "adapter_not_found", "lora_name", status=404
            )
        with self._turns.turn(client.has_left):
            self._forget(self._ids.pop(str(name)))
        return {"unloaded": name}

    @contextmanager
    def activate(self, adapter: Any) -> Iterator[None]:
        """Activate ``adapter`` (``name`` and ``scale``) in the model inside the context. The caller must already have
        the model's turn (see `ModelQueue`).

        Raise `Refusal` (404) if the adapter is not loaded.
        """
        if adapter is None:
            yield
            return
        name, scale = (
            (adapter.get("name"), adapter.get("scale", 1.0)) if isinstance(adapter, dict) else (None, None)
        )
        identifier = self._ids.get(name) if isinstance(name, str) else None
        if identifier is None or not isinstance(scale, int | float):
            raise Refusal(f"The adapter '{name}' does not exist.", "adapter_not_found", "adapter", status=404)
        for scaling, trained_scale in self._layers[identifier]:
            scaling[identifier] = trained_scale * scale
        self._model.enable_adapters()
        self._model.set_adapter(identifier)
        try:
            yield
        finally:
            self._model.disable_adapters()

    def _check(self, folder: Path) -> None:
        try:
            config = read_document(folder / "adapter_config.json")
        except UnusableModel as error:
            raise Refusal(str(error), "adapter_unfit", "lora_path") from error
        if config is None:
            raise Refusal(f"{folder} has no adapter_config.json.", "adapter_unfit", "lora_path")
        if not (folder / WEIGHTS_FILE).is_file():
            raise Refusal(
                f"{folder} has no {WEIGHTS_FILE}. Pickles such as adapter_model.bin are not read: they can "
                "run code.",
                "adapter_unfit",
                "lora_path",
            )
        if config.get("peft_type") != "LORA":
            raise Refusal(
                f"{folder} contains an adapter of the type {config.get('peft_type')}; only LoRA is supported.",
                "adapter_unfit",
            )

    def _forget(self, identifier: str) -> None:
        self._layers.pop(identifier, None)
        if identifier in getattr(self._model, "peft_config", {}):
            self._model.delete_adapter(identifier)
