"""Launchers, resources and jobs, as far as they can be known without a scheduler."""

from __future__ import annotations

from pathlib import Path

import pytest

from portico.testing.model_fixture import model_fixture
from portico_server.core.errors import InvalidRequest, Unavailable
from portico_server.launchers.protocol import Resources
from portico_server.launchers.remote import MAX_LINE_CHARS, split_log
from portico_server.launchers.slurm import SlurmOptions, job_options, job_script, read_job
from portico_server.models.spec import ModelSpec


async def test_without_slurms_commands_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    async with model_fixture(tmp_path) as models:
        await models.models.add(ModelSpec("m", "fake://", launcher="slurm"))
        with pytest.raises(Unavailable, match=r"needs the command 'sbatch'.*login node") as error:
            await models.models.load("m")
    assert error.value.code == "launcher_missing"


def test_a_log_line_without_an_end_is_truncated() -> None:
    *complete_lines, tail = split_log("a", "b\nc\nd")
    assert (complete_lines, tail) == (["ab", "c"], "d")
    for _ in range(100):
        *complete_lines, tail = split_log(tail, "x" * MAX_LINE_CHARS + "y")
    assert not complete_lines and len(tail) == MAX_LINE_CHARS and tail.endswith("y")


def test_unknown_launchers_and_resources_are_refused() -> None:
    with pytest.raises(InvalidRequest, match=r"Unknown launcher 'slrum'.*slurm") as unknown:
        ModelSpec("m", "fake://", launcher="slrum")
    assert unknown.value.param == "launcher"
    with pytest.raises(InvalidRequest, match="no field 'gpu'") as field:
        ModelSpec("m", "fake://", resources={"gpu": 1})
    assert field.value.param == "resources.gpu"
    for resources in (
        {"gpus": -1},
        {"gpus": True},
        {"partition": "a b"},
        {"partition": "x\n--uid=0"},
    ):
        with pytest.raises(InvalidRequest, match="must be"):
            ModelSpec("m", "fake://", resources=resources)


def test_a_job_requests_the_configured_options_and_resources(tmp_path: Path) -> None:
    options = SlurmOptions(
        "long",
        "lab",
        "gpu:1",
        "8:00:00",
        "cuda/12.4, gcc",
        "apptainer exec 'my image'",
        "--qos=high --comment='a b'",
    )
    resources = Resources(cpus=4, gpus=2, gpu_type="a100", memory_mb=100)
    job_arguments = job_options("portico-1", resources, tmp_path, options)
    for option in (
        "--partition=long",
        "--account=lab",
        "--gres=gpu:a100:2",
        "--time=8:00:00",
        "--cpus-per-task=4",
        "--mem=100M",
        "--qos=high",
        "--comment=a b",
    ):
        assert option in job_arguments
    script = job_script(tmp_path, options)
    assert "module load cuda/12.4 gcc || exit 1" in script.splitlines()
    assert "exec apptainer exec 'my image' " in script


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"slurm_modules": "x;rm"}, "'x;rm' in 'slurm_modules' is not a valid module name"),
        (
            {"slurm_options": "--comment='a"},
            "'slurm_options' is not a valid command line: No closing quotation",
        ),
        ({"slurm_container": 'apptainer "'}, "'slurm_container' is not a valid command line"),
    ],
)
async def test_an_invalid_slurm_setting_is_refused_by_name(
    settings: dict[str, str], words: str, tmp_path: Path
) -> None:
    async with model_fixture(tmp_path, launcher="slurm", **settings) as models:
        await models.models.add(ModelSpec("m", "fake://"))
        with pytest.raises(Unavailable) as error:
            await models.models.load("m")
    assert words in error.value.message
    assert error.value.code == "setting_invalid"


@pytest.mark.parametrize(
    ("listed", "state", "reason"),
    [
        ("7|PENDING|Resources|N/A\n", "queued", "Resources"),
        ("7|PENDING|PartitionTimeLimit|N/A\n", "ended", "PartitionTimeLimit"),
        ("7|TIMEOUT|TimeLimit|1\n", "ended", "job 7: TIMEOUT"),
        ("", "ended", "Slurm no longer knows the job"),
    ],
)
def test_squeue_output_becomes_a_job_state_with_a_reason(
    listed: str, state: str, reason: str, tmp_path: Path
) -> None:
    look = read_job(listed, tmp_path)
    assert look.state == state and reason in look.reason
