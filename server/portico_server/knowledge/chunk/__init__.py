"""From parts to chunks: pure functions by what they cut, and the table `chunkers` that names them.

Imports nothing of the daemon but `portico_server.knowledge.document`.
"""
