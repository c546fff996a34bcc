"""The worker's package, by its name."""

from __future__ import annotations

WORKER = "worker"
"""Alone on the path of an interpreter that has none of the daemon's packages."""
