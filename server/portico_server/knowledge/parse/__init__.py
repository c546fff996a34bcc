"""From a document to parts: text with its position. One module per format, run in processes with limits.

`formats` is the table of formats, `pool` the daemon's side of the processes, `worker` their own side. Imports nothing
from the daemon except its sibling `portico_server.knowledge.chunk`, so that a worker starts fast.
"""
