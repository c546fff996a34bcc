"""``bench/gpu.py`` on a machine without a GPU, with the stand-in for vLLM: measurements are kept and not repeated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.daemon import ROOT
from tests.server.features.gpu_engines.external.interpreter import interpreter, model

SIZES = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "num_attention_heads": 4,
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_repeated_benchmark_run_measures_only_the_missing_parts(tmp_path: Path) -> None:
    variables = {
        "PORTICO_TEST_VLLM": interpreter(tmp_path),
        "PORTICO_TEST_GPU_MODEL": model(tmp_path, **SIZES),
    }
    results = tmp_path / "results.json"

    def measured(seconds: int, parts: str) -> tuple[int, str]:
        line = [sys.executable, str(ROOT / "bench" / "gpu.py"), "--results", str(results)]
        done = subprocess.run(
            [*line, "--seconds", str(seconds), "--parts", parts],
            capture_output=True,
            text=True,
            timeout=200,
            env={**os.environ, "PORTICO_TEST_GPU_PYTHON": "", "PORTICO_TEST_LMDEPLOY": "", **variables},
        )
        assert done.stderr == "", done.stderr
        return done.returncode, done.stdout

    status, output = measured(220, "vllm,adapters,lmdeploy")
    assert status == 75 and "Not measured yet: vllm." in output
    assert "lmdeploy: skipped: no interpreter is named for it" in output
    stored_results = json.loads(results.read_text())
    for counts in stored_results["adapters"].values():
        assert counts == {"calls": 48, "same": 48, "another's": 0, "nobody's": 0, "distinct": 3}
    status, output = measured(10, "adapters")
    assert status == 0 and json.loads(results.read_text()) == stored_results


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_a_failing_benchmark_part_is_reported_and_the_others_run(tmp_path: Path) -> None:
    broken_python = tmp_path / "python"
    broken_python.write_text("#!/bin/sh\nexit 1\n")
    broken_python.chmod(0o755)
    results = tmp_path / "results.json"
    line = [sys.executable, str(ROOT / "bench" / "gpu.py"), "--results", str(results)]
    done = subprocess.run(
        [*line, "--parts", "adapters,training", "--streams", "1"],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PORTICO_TEST_GPU_PYTHON": "",
            "PORTICO_TEST_VLLM": str(broken_python),
            "PORTICO_TEST_GPU_MODEL": model(tmp_path, **SIZES),
        },
    )
    assert done.returncode == 1, done.stderr
    assert "adapters: failed: " in done.stdout and "Not measured yet" not in done.stdout
    assert json.loads(results.read_text()) == {"training": {"skipped": "no interpreter is named for it"}}
