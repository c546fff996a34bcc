"""GGUF headers: what they contain, and what hostile headers cannot do."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from tests.server.models.model_files import LLAMA, entry, gguf, string

from portico_server.core.errors import InvalidRequest, NotFound
from portico_server.models.gguf import read_gguf


def written(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return path


def test_the_header_fields_needed_by_engines_are_read(tmp_path: Path) -> None:
    header = read_gguf(written(tmp_path, gguf()))
    assert (header.architecture, header.name, header.kind) == ("llama", "Small", "model")
    assert (header.context_length, header.embedding_length, header.block_count) == (8192, 64, 2)
    assert (header.head_count, header.head_count_kv, header.vocabulary) == (4, 2, 3)
    assert (header.quantisation, header.parameters, header.tensors) == ("Q4_K_M", 256, 1)
    assert header.chat_template and not header.truncated and header.split_count == 1
    assert header.kv_bytes_per_token == 2 * 2 * 2 * (16 + 16)


def test_tells_an_embedding_model_by_its_pooling(tmp_path: Path) -> None:
    fields = {"general.architecture": "bert", "bert.pooling_type": 1, "bert.embedding_length": 384}
    header = read_gguf(written(tmp_path, gguf(fields)))
    assert (header.pooling, header.embedding_length, header.chat_template) == ("mean", 384, False)


def test_takes_the_largest_value_where_layers_differ(tmp_path: Path) -> None:
    fields = LLAMA | {"llama.attention.head_count": [2, 8, 4]}
    assert read_gguf(written(tmp_path, gguf(fields))).head_count == 8


def test_names_the_commonest_tensor_type_when_the_file_type_is_missing(tmp_path: Path) -> None:
    fields = {name: value for name, value in LLAMA.items() if name != "general.file_type"}
    data = gguf(fields, [("a", (64,), 0), ("b", (64, 32), 3)])
    assert read_gguf(written(tmp_path, data)).quantisation == "Q4_1"


def test_a_very_long_chat_template_is_still_recognised(tmp_path: Path) -> None:
    fields = LLAMA | {"tokenizer.chat_template": "x" * 100_000}
    assert read_gguf(written(tmp_path, gguf(fields))).chat_template


@pytest.mark.parametrize("lost", [1, 500])
def test_finds_a_file_that_was_cut_short_in_its_tensors(tmp_path: Path, lost: int) -> None:
    assert read_gguf(written(tmp_path, gguf()[:-lost])).truncated


def test_every_cut_inside_the_header_is_a_clear_error(tmp_path: Path) -> None:
    data = gguf()
    end = len(data) - 1024 - 32  # before the padding
    for length in range(0, end, 7):
        with pytest.raises(InvalidRequest):
            read_gguf(written(tmp_path, data[:length]))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"PK\x03\x04" + bytes(64), "does not begin with 'GGUF'"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "version"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "header entries"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1 << 62), "name of"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IQ", 8, 1 << 62), "bytes"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 8, 1 << 62), "array"),
        (
            b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 77, 1),
            "unknown type",
        ),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + string("k") + struct.pack("<IIQ", 9, 9, 3) * 9, "array"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + string("t") + struct.pack("<I", 900), "dimensions"),
        (
            b"GGUF"
            + struct.pack("<IQQ", 3, 1, 0)
            + string("t")
            + struct.pack("<I4QIQ", 4, *[1 << 40] * 4, 0, 0),
            "any machine's memory",
        ),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + entry("general.alignment", 0), "alignment"),
    ],
)
def test_refuses_a_hostile_file(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as caught:
        read_gguf(written(tmp_path, data))
    assert str(tmp_path) in caught.value.message and caught.value.code == "model_file_invalid"


def test_a_missing_file_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.gguf"):
        read_gguf(tmp_path / "nowhere.gguf")
