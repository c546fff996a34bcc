"""Agent Skills: folders with a SKILL.md, read from archives, stored in versions, and read by models step by step."""
