"""Fetching on behalf of tools: one client that goes nowhere it should not.

`address` says which addresses are refused, `client` fetches, `readable` turns a page into text. May import core.
"""
