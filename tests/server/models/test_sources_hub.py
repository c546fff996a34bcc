"""Downloads from hubs: resumed, verified, shared, with clear messages about failures."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.server.models.hubs import COMMIT, Hub, serving
from tests.server.models.model_files import LLAMA, gguf

from portico_server.core.errors import Forbidden, InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.models.plan.remote_weights import read_remote_weights
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.settings import Settings, load

BIG = gguf(LLAMA, [("w", (1024, 1024), 0)], filler=b"weights.")
SMALL = gguf(LLAMA | {"general.name": "Other"})


class Heard:
    """A recorder of reported progress."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int | None]] = []
        self.some = asyncio.Event()

    async def __call__(self, done: int, total: int | None) -> None:
        self.events.append((done, total))
        if done:
            self.some.set()


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    files = {"model-Q4_K_M.gguf": BIG, "model-Q8_0.gguf": SMALL, "README.md": b"# A model\n"}
    async with serving(Hub(files)) as hub:
        yield hub


def fetcher(tmp_path: Path, url: str, **more: object) -> ModelFetcher:
    return ModelFetcher(settings(tmp_path, url, **more))


def settings(tmp_path: Path, url: str, **more: object) -> Settings:
    values = {"home": tmp_path, "hf_endpoint": url, "modelscope_endpoint": url, **more}
    return load(values, {}).settings


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
async def test_fetches_the_preferred_model_once(tmp_path: Path, hub: Hub, scheme: str) -> None:
    source, model_fetcher, listener = (
        parse_source(f"{scheme}://org/model"),
        fetcher(tmp_path, hub.url),
        Heard(),
    )
    assert model_fetcher.find_cached(source) is None
    path = await model_fetcher.fetch(source, listener)
    assert (
        path
        == tmp_path / "models" / scheme / "org" / "model" / "model-Q4_K_M.gguf"
        == model_fetcher.find_cached(source)
    )
    assert path.read_bytes() == BIG
    assert listener.events[-1] == (len(BIG), len(BIG))
    request_count = len(hub.requests)
    assert await model_fetcher.fetch(source, listener) == path and len(hub.requests) == request_count
    record = json.loads((path.parent / "fetched.json").read_text())[""]
    assert record["revision"] == (COMMIT if scheme == "hf" else "") and len(record["files"]) == 1


async def test_a_named_file_and_the_default_choice_are_cached_separately(tmp_path: Path, hub: Hub) -> None:
    model_fetcher = fetcher(tmp_path, hub.url)
    file_path = await model_fetcher.fetch(parse_source("hf://org/model/model-Q8_0.gguf"), Heard())
    assert (
        file_path.read_bytes() == SMALL
        and model_fetcher.find_cached(parse_source("hf://org/model/model-Q8_0.gguf")) == file_path
    )
    assert (await model_fetcher.fetch(parse_source("hf://org/model@v1"), Heard())).read_bytes() == BIG


async def test_fetches_a_folder_of_safetensors(tmp_path: Path) -> None:
    files = {
        "model.safetensors": b"x" * 3000,
        "config.json": b"{}",
        "tokenizer.json": b"{}",
        "flax.msgpack": b"y",
    }
    async with serving(Hub(files)) as hub:
        model_fetcher, listener = fetcher(tmp_path, hub.url), Heard()
        folder = await model_fetcher.fetch(parse_source("hf://org/model"), listener)
        assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
            "model.safetensors", "config.json", "tokenizer.json", "fetched.json",
        }  # fmt: skip
        assert model_fetcher.find_cached(parse_source("hf://org/model")) == folder and listener.events[
            -1
        ] == (3004, 3004)
        (folder / "config.json").unlink()
        assert await model_fetcher.fetch(parse_source("hf://org/model"), Heard()) == folder
        assert (folder / "config.json").read_bytes() == b"{}"
        assert [path for path, _ in hub.requests].count("/cdn/model.safetensors") == 1


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
async def test_only_the_needed_files_of_a_diffusion_pipeline_are_fetched(tmp_path: Path, scheme: str) -> None:
    header = b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}'
    pipeline_files = {
        "model_index.json": b'{"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet"]}',
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": len(header).to_bytes(8, "little") + header + b"xx",
        "tokenizer/merges.txt": b"",
        "tokenizer/tokenizer_config.json": b"{}",
    }
    besides = {
        "all-in-one.safetensors": b"x" * 9000,
        "unet/diffusion_pytorch_model.fp16.safetensors": b"x" * 900,
        "unet/diffusion_pytorch_model.bin": b"x",
        "unet/model.onnx": b"x",
        "unet/network.py": b"x",
        "pictures/cat.png": b"x",
    }
    async with serving(Hub({**pipeline_files, **besides})) as hub:
        source = parse_source(f"{scheme}://org/model")
        model_fetcher = fetcher(tmp_path, hub.url)
        planned = await read_remote_weights(source, "m", settings(tmp_path, hub.url))
        folder = await model_fetcher.fetch(source, Heard())
    file_names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {name for name in file_names if not name.startswith(".")} == {*pipeline_files, "fetched.json"}
    assert isinstance(planned, ModelWeights)
    weights = len(pipeline_files["unet/diffusion_pytorch_model.safetensors"])
    assert (planned.draws, planned.dtype, planned.size) == (True, "bfloat16", weights)


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
async def test_a_broken_download_resumes_at_its_last_byte(tmp_path: Path, hub: Hub, scheme: str) -> None:
    hub.cut_after = 3_000_000
    path = await fetcher(tmp_path, hub.url).fetch(parse_source(f"{scheme}://org/model"), Heard())
    assert path.read_bytes() == BIG
    first, second = hub.downloads
    assert "Range" not in first and 0 < int(second["Range"][6:-1]) <= 3_000_000


async def test_a_cancelled_fetch_is_continued_by_the_next(tmp_path: Path, hub: Hub) -> None:
    hub.gate = asyncio.Event()
    model_fetcher, listener = fetcher(tmp_path, hub.url), Heard()
    task = asyncio.create_task(model_fetcher.fetch(parse_source("hf://org/model"), listener))
    await listener.some.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert model_fetcher.find_cached(parse_source("hf://org/model")) is None
    hub.gate.set()
    path = await fetcher(tmp_path, hub.url).fetch(parse_source("hf://org/model"), Heard())
    assert path.read_bytes() == BIG and int(hub.downloads[1]["Range"][6:-1]) > 0
    assert [item.name for item in path.parent.glob("*.part")] == []


async def test_waits_out_a_hub_in_trouble(tmp_path: Path, hub: Hub) -> None:
    hub.failures = 2
    assert (
        await fetcher(tmp_path, hub.url).fetch(parse_source("hf://org/model"), Heard())
    ).read_bytes() == BIG


async def test_gives_up_on_a_hub_that_stays_in_trouble(tmp_path: Path, hub: Hub) -> None:
    hub.failures = 100
    with pytest.raises(Unavailable, match="HTTP 503"):
        await fetcher(tmp_path, hub.url).fetch(parse_source("hf://org/model"), Heard())
    assert hub.failures == 95


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
async def test_wrong_bytes_are_not_kept(tmp_path: Path, hub: Hub, scheme: str) -> None:
    hub.wrong = BIG[:-1] + b"?"
    model_fetcher = fetcher(tmp_path, hub.url)
    with pytest.raises(InvalidRequest, match="SHA-256") as caught:
        await model_fetcher.fetch(parse_source(f"{scheme}://org/model"), Heard())
    assert (
        caught.value.code == "hash_mismatch"
        and model_fetcher.find_cached(parse_source(f"{scheme}://org/model")) is None
    )
    assert not list((tmp_path / "models" / scheme).rglob("*.part"))


async def test_more_bytes_than_promised_are_not_written(tmp_path: Path, hub: Hub) -> None:
    hub.wrong = BIG * 2
    with pytest.raises(InvalidRequest, match="more than"):
        await fetcher(tmp_path, hub.url).fetch(parse_source("hf://org/model"), Heard())


async def test_small_files_are_checked_by_their_git_id(tmp_path: Path) -> None:
    async with serving(Hub({"model.safetensors": b"xx", "config.json": b"{}"})) as hub:
        hub.wrong = b"xx"
        with pytest.raises(InvalidRequest, match="git id"):
            await fetcher(tmp_path, hub.url).fetch(parse_source("hf://org/model"), Heard())


async def test_asks_for_room_before_it_downloads(tmp_path: Path, hub: Hub) -> None:
    hub.claimed = 10**16
    with pytest.raises(Unavailable, match=r"needs 10,000,000\.0 GB") as caught:
        await fetcher(tmp_path, hub.url).fetch(parse_source("hf://org/model"), Heard())
    assert caught.value.code == "disk_full" and not hub.downloads


async def test_a_gated_model_says_how_to_get_in(tmp_path: Path, hub: Hub) -> None:
    hub.token = "right"
    for token in ("", "secret-but-wrong"):
        with pytest.raises(Forbidden, match=f"accept its terms at {hub.url}/org/model") as caught:
            await fetcher(tmp_path, hub.url, hf_token=token).fetch(parse_source("hf://org/model"), Heard())
        assert "secret" not in caught.value.message
    await fetcher(tmp_path, hub.url, hf_token="right").fetch(parse_source("hf://org/model"), Heard())


async def test_the_token_stays_with_its_host(tmp_path: Path, hub: Hub) -> None:
    hub.token, hub.cdn = "secret", True
    await fetcher(tmp_path, hub.url, hf_token="secret").fetch(parse_source("hf://org/model"), Heard())
    assert hub.downloads and all("Authorization" not in headers for headers in hub.downloads)


async def test_the_token_of_one_hub_is_not_shown_to_another(tmp_path: Path, hub: Hub) -> None:
    await fetcher(tmp_path, hub.url, hf_token="secret").fetch(parse_source("modelscope://org/model"), Heard())
    assert all("Authorization" not in headers for _, headers in hub.requests)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hf://org/none", "does not exist"),
        ("modelscope://org/none", "does not exist"),
        ("hf://org/model@v9", "no revision 'v9'"),
        ("hf://org/model/model-Q4_KM.gguf", r"Did you mean 'model-Q4_K_M\.gguf'"),
        ("modelscope://org/model/x", "There are model-Q4_K_M"),
    ],
)
async def test_a_missing_repository_revision_or_file_is_not_found(
    tmp_path: Path, hub: Hub, text: str, said: str
) -> None:
    with pytest.raises(NotFound, match=said):
        await fetcher(tmp_path, hub.url).fetch(parse_source(text), Heard())


async def test_a_download_that_is_not_a_gguf_file_is_refused(tmp_path: Path) -> None:
    async with serving(Hub({"m.gguf": b"not a model"})) as hub:
        model_fetcher = fetcher(tmp_path, hub.url)
        with pytest.raises(InvalidRequest, match="does not begin with 'GGUF'"):
            await model_fetcher.fetch(parse_source("hf://org/model"), Heard())
        assert model_fetcher.find_cached(parse_source("hf://org/model")) is None


@pytest.mark.parametrize("scheme", ["hf", "modelscope"])
async def test_without_network_the_error_says_where_to_put_the_files(tmp_path: Path, scheme: str) -> None:
    with socket.socket() as idle_socket:  # bound but not listening: connections are refused
        idle_socket.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{idle_socket.getsockname()[1]}"
        with pytest.raises(Unavailable, match="Without network: download") as caught:
            await fetcher(tmp_path, url).fetch(parse_source(f"{scheme}://org/model"), Heard())
    assert caught.value.code == "no_network" and str(tmp_path) in caught.value.message


async def test_a_server_that_is_not_a_hub_is_reported(tmp_path: Path, hub: Hub) -> None:
    with pytest.raises(PorticoError, match="does not exist at"):
        await fetcher(tmp_path, f"{hub.url}/cdn").fetch(parse_source("hf://org/model"), Heard())


async def test_two_who_want_one_model_share_a_download(tmp_path: Path, hub: Hub) -> None:
    hub.gate = asyncio.Event()
    model_fetcher, first_listener, two = fetcher(tmp_path, hub.url), Heard(), Heard()
    first = asyncio.create_task(model_fetcher.fetch(parse_source("hf://org/model"), first_listener))
    second = asyncio.create_task(model_fetcher.fetch(parse_source("hf://org/model"), two))
    await asyncio.gather(first_listener.some.wait(), two.some.wait())
    first.cancel()  # the other caller's download continues
    await asyncio.wait([first])
    hub.gate.set()
    assert (await second).read_bytes() == BIG and len(hub.downloads) == 1
    assert two.events[-1] == (len(BIG), len(BIG))


async def test_two_who_want_a_missing_model_hear_the_same_error(tmp_path: Path, hub: Hub) -> None:
    model_fetcher = fetcher(tmp_path, hub.url)
    tasks = [model_fetcher.fetch(parse_source("hf://org/none"), Heard()) for _ in range(2)]
    assert all(isinstance(error, NotFound) for error in await asyncio.gather(*tasks, return_exceptions=True))


ANOTHER_PROCESS = """
import asyncio, sys
from portico_server.models.plan.weights import ModelWeights
from portico_server.models.plan.remote_weights import read_remote_weights
from portico_server.models.sources import ModelFetcher, parse_source
from portico_server.settings import Settings, load

async def unheard(done, total): ...

async def main():
    here = ModelFetcher(load({"home": sys.argv[1], "hf_endpoint": sys.argv[2]}, {}).settings)
    fetch = asyncio.create_task(here.fetch(parse_source("hf://org/model"), unheard))
    print("started", flush=True)
    print(await fetch)

asyncio.run(main())
"""


async def test_two_processes_share_a_download(tmp_path: Path, hub: Hub) -> None:
    hub.gate = asyncio.Event()
    model_fetcher, progress = fetcher(tmp_path, hub.url), Heard()
    fetch_task = asyncio.create_task(model_fetcher.fetch(parse_source("hf://org/model"), progress))
    await progress.some.wait()
    command = (sys.executable, "-c", ANOTHER_PROCESS, str(tmp_path), hub.url)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    assert await process.stdout.readline() == b"started\n"
    hub.gate.set()
    path = await fetch_task
    printed, _ = await process.communicate()
    assert printed.decode().strip() == str(path) and len(hub.downloads) == 1
