"""From a document to parts, which are texts with their positions. Each format has a module, which runs in a process
with resource limits.

`formats` is the table of formats, `pool` starts and calls the processes from the daemon, and `worker` runs in them.
Imports nothing from the daemon except its sibling `portico_server.features.chunkers`, so that a worker starts fast.
"""
