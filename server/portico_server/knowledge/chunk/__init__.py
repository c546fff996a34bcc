"""From parts to chunks: pure functions, grouped by what they cut, and the table `chunkers` that names them.

Imports nothing from the daemon except `portico_server.knowledge.document`.
"""
