"""Connects editors and agents to a daemon by editing their own configuration files.

`clients` is the table of clients, `jsonc`, `toml` and `yaml` edit one format each, and `connection` writes, checks and
restores files. `bundle` packs the bridge for assistants that install servers from a file. The package imports httpx
and PyYAML, which the command line has.
"""
