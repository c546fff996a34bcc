"""Agent Skills: folders with a SKILL.md, read from archives, kept in versions, and read by models bit by bit.

May import `portico_server.archives`, `portico_server.db`, `portico_server.runs` and `portico_server.core`.
"""
