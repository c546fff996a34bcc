"""From a document to parts, which are texts with their positions. Each format has a module, which runs in a process
with resource limits.

`formats` is the table of formats, `pool` starts and calls the processes from the daemon, and `worker` runs in them. A
worker imports little of the daemon, so that it starts fast.
"""
