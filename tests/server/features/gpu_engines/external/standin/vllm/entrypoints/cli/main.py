"""vLLM's command ``serve`` on several nodes: the first one serves once the others have connected to it."""

from __future__ import annotations

import argparse
import contextlib
import runpy
import socket
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=("serve",))
    parser.add_argument("--nnodes", type=int, required=True)
    parser.add_argument("--node-rank", type=int, required=True)
    parser.add_argument("--master-addr", required=True)
    parser.add_argument("--master-port", type=int, required=True)
    parser.add_argument("--headless", action="store_true")
    arguments, sys.argv[1:] = parser.parse_known_args()
    assert arguments.headless == (arguments.node_rank > 0)
    first = (arguments.master_addr, arguments.master_port)
    if arguments.headless:
        while True:
            with contextlib.suppress(ConnectionError), socket.create_connection(first) as connection:
                connection.sendall(b"%d" % arguments.node_rank)
                connection.recv(1)
                return
            time.sleep(0.05)
    with socket.create_server(first) as server:
        connections = [server.accept()[0] for _ in range(1, arguments.nnodes)]
        print(f"nodes: {sorted(int(peer.recv(8)) for peer in connections)}", flush=True)
        runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


if __name__ == "__main__":
    main()
