"""The engine `transformers`: folders with safetensors that no other engine takes here, on CPU or GPU."""

from __future__ import annotations

# The worker's package, by its name.


WORKER = "worker"
"""Alone on the path of an interpreter that has none of the daemon's packages."""
