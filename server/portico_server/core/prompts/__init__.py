"""The definition of a prompt, and the prompts included with Portico. Imports only the core; the library is in
``apps/prompts``.
"""
