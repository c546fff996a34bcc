"""LMDeploy's own command, server, parsers and templates; only the token generator is replaced.

Runs in LMDeploy's environment: ``launch.py -m lmdeploy serve api_server …``.
"""

from __future__ import annotations

import sys
from typing import Any

from lmdeploy import archs
from lmdeploy.cli import run
from lmdeploy.serve.core.async_engine import AsyncEngine
from tokens import Maker


def _make(self: AsyncEngine, model_path: str, backend_config: Any, **_more: Any) -> Maker:
    return Maker(model_path, backend_config)


def main() -> None:
    assert sys.argv[1:4] == ["-P", "-m", "lmdeploy"]
    del sys.argv[1:4]
    archs.autoget_backend = lambda *_given, **_more: "turbomind"  # as with a GPU, for the models of the tests
    AsyncEngine._build_turbomind = AsyncEngine._build_pytorch = _make
    run()


if __name__ == "__main__":
    main()
