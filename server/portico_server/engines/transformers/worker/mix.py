"""Which type each tensor of a GGUF file is written as, when the file as a whole is to be of one type.

The choices are those of llama.cpp's ``llama-quantize`` for dense models and for those with experts: what matters most
(the output layer, values, the way down of some layers) gets more bits than the rest.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from gguf import GGMLQuantizationType, LlamaFileType, quants

Kind: TypeAlias = GGMLQuantizationType


@dataclass(frozen=True)
class FileType:
    """What the numbers of a matrix become, and what the file says of itself. ``mixed``: `Mix` may choose more bits."""

    usual: Kind
    said: LlamaFileType
    mixed: bool = False


TYPES: Mapping[str, FileType] = {
    "f32": FileType(Kind.F32, LlamaFileType.ALL_F32),
    "f16": FileType(Kind.F16, LlamaFileType.MOSTLY_F16),
    "bf16": FileType(Kind.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": FileType(Kind.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q6_k": FileType(Kind.Q6_K, LlamaFileType.MOSTLY_Q6_K, mixed=True),
    "q5_k_m": FileType(Kind.Q5_K, LlamaFileType.MOSTLY_Q5_K_M, mixed=True),
    "q5_k_s": FileType(Kind.Q5_K, LlamaFileType.MOSTLY_Q5_K_S, mixed=True),
    "q5_1": FileType(Kind.Q5_1, LlamaFileType.MOSTLY_Q5_1, mixed=True),
    "q5_0": FileType(Kind.Q5_0, LlamaFileType.MOSTLY_Q5_0, mixed=True),
    "q4_k_m": FileType(Kind.Q4_K, LlamaFileType.MOSTLY_Q4_K_M, mixed=True),
    "q4_k_s": FileType(Kind.Q4_K, LlamaFileType.MOSTLY_Q4_K_S, mixed=True),
    "q4_1": FileType(Kind.Q4_1, LlamaFileType.MOSTLY_Q4_1, mixed=True),
    "q4_0": FileType(Kind.Q4_0, LlamaFileType.MOSTLY_Q4_0, mixed=True),
}
"""What a file may be written as."""

COARSER: Mapping[Kind, Kind] = {Kind.Q4_K: Kind.Q5_0, Kind.Q5_K: Kind.Q5_1, Kind.Q6_K: Kind.Q8_0}
"""What stands in where rows cannot be cut into blocks of 256."""

EMBEDDING, OUTPUT = "token_embd.weight", "output.weight"

_LAYER = re.compile(r"blk\.(\d+)\.(.+)\.weight")

_AS_IT_IS = re.compile(r".*(?:_norm|ffn_gate_inp)\.weight")
"""Small, and felt by everything behind it."""


class Mix:
    """The types of one model's tensors. ``names`` are all it has, ``layers`` its blocks; ``grouped`` is how many heads
    of a query share a key, ``experts`` how many feed-forward networks a block has.
    """

    def __init__(
        self, wished: str, names: Collection[str], layers: int, grouped: int = 1, experts: int = 0
    ) -> None:
        self._wished = wished
        self._type = TYPES[wished]
        self._output = OUTPUT if OUTPUT in names else EMBEDDING
        self._layers = layers
        # In models of 70 billion parameters eight heads share a matrix of values, which costs little.
        self._shared = layers == 80 and grouped == 8
        self._experts = experts

    def of(self, name: str, shape: tuple[int, ...], before: Kind) -> Kind:
        """``shape`` has the length of a row last; ``before`` is the type of a tensor that stays as it is."""
        if len(shape) < 2 or _AS_IT_IS.fullmatch(name):
            return before
        kind = self._wish(name) if self._type.mixed else self._type.usual
        for _ in range(2):
            if shape[-1] % quants.GGML_QUANT_SIZES[kind][0] == 0:
                return kind
            kind = COARSER.get(kind, Kind.F16)
        return kind if shape[-1] % quants.GGML_QUANT_SIZES[kind][0] == 0 else Kind.F16

    def _wish(self, name: str) -> Kind:
        usual, medium = self._type.usual, self._wished.endswith("_m")
        if name == self._output:
            return Kind.Q6_K
        found = _LAYER.fullmatch(name)
        if found is None:
            return usual
        layer, part = int(found[1]), found[2]
        if self._experts == 8 and part in ("attn_v", "attn_k"):
            return Kind.Q8_0  # small beside the experts
        if self._experts == 8 and part == "attn_output" and usual == Kind.Q4_K:
            return Kind.Q5_K
        if part == "attn_qkv" and medium:
            return Kind.Q6_K if usual == Kind.Q5_K else Kind.Q5_K
        if part in ("attn_v", "ffn_down", "ffn_down_exps") and medium and self._more(layer):
            return Kind.Q6_K
        if part == "attn_v" and usual == Kind.Q4_K and self._shared:
            return Kind.Q5_K
        if self._wished == "q4_k_s" and layer < (4 if part == "attn_v" else self._layers // 8):
            return Kind.Q5_K if part in ("attn_v", "ffn_down", "ffn_down_exps") else usual
        return usual

    def _more(self, layer: int) -> bool:
        """The first and last eighth of the layers, and each third between them."""
        eighth = self._layers // 8
        return layer < eighth or layer >= 7 * self._layers // 8 or (layer - eighth) % 3 == 2
