"""The engine `transformers`: folders with safetensors that no other engine on this machine supports, on CPU or GPU."""

from __future__ import annotations

WORKER = "worker"
"""The worker's package: the only path entry of an interpreter without the daemon's packages."""
