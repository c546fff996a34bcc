"""Agent Skills: folders with a SKILL.md, read from archives, stored in versions, and read by models step by step.

Can import `portico_server.archives`, `portico_server.db`, `portico_server.runs` and `portico_server.core`.
"""
