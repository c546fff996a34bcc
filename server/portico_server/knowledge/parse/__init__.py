"""From a document to parts: text, and where it stands. One file per format, run in processes with limits.

`formats` is the table of formats, `pool` the processes as the daemon sees them, `worker` their other side. Imports
nothing of the daemon but its sibling `portico_server.knowledge.chunk`, so that a worker starts fast.
"""
