"""The process of a GGUF model: llama.cpp's own HTTP server, in the build of the xllamacpp wheel."""

from __future__ import annotations

import os
import signal
from typing import Any
from urllib.parse import urlsplit

from portico_server.engines import lifeline

SPINS = "1000"
"""How often a thread looks whether the others are done before it sleeps: a few times ten microseconds.

A token takes hundreds of such waits. Sleeping at once halves the speed of an idle machine, spinning for long makes
llama.cpp several times slower as soon as anything else runs on its cores. Two cores, SmolLM2, tokens/s alone and with
one busy neighbour: 0 spins 55 and 52, 1,000 spins 121 and 41, for ever 100 and 34; one thread 80 and 78.
"""

_POOLING = {
    "mean": "LLAMA_POOLING_TYPE_MEAN",
    "cls": "LLAMA_POOLING_TYPE_CLS",
    "last": "LLAMA_POOLING_TYPE_LAST",
    "rank": "LLAMA_POOLING_TYPE_RANK",
}


def parameters(config: dict[str, Any]) -> Any:
    """llama.cpp's parameters for a plan."""
    import xllamacpp

    given = config["plan"]
    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.model_alias = {config["name"]}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [config["key"]]
    params.ui = False
    params.offline = True
    params.verbosity = 1
    params.n_parallel = given["slots"]
    params.n_ctx = given["context_length"] * given["slots"]
    params.cpuparams.n_threads = given["threads"]
    params.cpuparams_batch.n_threads = given["threads"]
    params.n_gpu_layers = given["gpu_layers"]
    # It would load the model once more to find out what `plan` has settled already.
    params.fit_params = False
    params.cache_ram_mib = given["prompts_mb"]
    params.cache_type_k = params.cache_type_v = getattr(
        xllamacpp.ggml_type, f"GGML_TYPE_{given['cache_type'].upper()}"
    )
    if given["chat_template"]:
        params.chat_template = given["chat_template"]
    if given["embedding"]:
        params.embedding = True
        params.n_batch = params.n_ubatch = given["context_length"]
        if given["pooling"]:
            params.pooling_type = getattr(xllamacpp.llama_pooling_type, _POOLING[given["pooling"]])
    return params


def main() -> None:
    """As a child of the daemon."""
    config = lifeline.receive()
    # OpenMP reads these when llama.cpp is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    # The server of llama.cpp runs in native threads: let the system end them, at once.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        import xllamacpp
    except ImportError as error:
        lifeline.give_up(
            f"the package xllamacpp does not load ({error}). Install it anew: pip install xllamacpp."
        )
    try:
        server = xllamacpp.Server(parameters(config))
    except (RuntimeError, ValueError) as error:
        lifeline.give_up(
            f"llama.cpp cannot load {config['model']} ({error}) The model's log says why: the file may be "
            "damaged, of a kind that this version does not know, or larger than the memory."
        )
    lifeline.announce(urlsplit(server.listening_address).port or 0)
    signal.pause()


if __name__ == "__main__":
    main()
