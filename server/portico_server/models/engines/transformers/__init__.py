"""The engine `transformers`: folders with safetensors that no other engine takes here, on CPU or GPU."""

from __future__ import annotations

WORKER = "worker"
"""The worker's package: alone on the path of an interpreter that has none of the daemon's packages."""
