"""The definition of a prompt, and the prompts included with Portico. May import only the core; the library of prompts
is in ``apps/prompts``.
"""
