"""Every parameter of the heavy engines is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from portico_server.features.gpu_engines.external.server_options import COMMON_OPTIONS, ServerOptions
from portico_server.features.gpu_engines.lmdeploy.engine import LMDEPLOY_OPTIONS as LMDEPLOY
from portico_server.features.gpu_engines.transformers.engine import TRANSFORMERS_OPTIONS as TRANSFORMERS
from portico_server.features.gpu_engines.vllm.engine import VLLM_OPTIONS as VLLM
from portico_server.models.catalog import ENGINES

PAGE = (Path(__file__).parents[5] / "docs" / "engines.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "options", [VLLM, LMDEPLOY, TRANSFORMERS, COMMON_OPTIONS], ids=["vllm", "lmdeploy", "transformers", "all"]
)
def test_every_parameter_is_documented(options: ServerOptions) -> None:
    for name, option in options.items():
        assert f"| `{name}` | {f'`{option.flag}`' if option.flag else ''} |" in PAGE, name


def test_every_engine_is_documented() -> None:
    assert [name for name in ENGINES if f"| `{name}` |" not in PAGE] == []
