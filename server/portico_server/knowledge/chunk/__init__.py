"""From parts to chunks: pure functions, one file each, and the table that names them.

Imports nothing of the daemon but `portico_server.knowledge.document`.
"""
