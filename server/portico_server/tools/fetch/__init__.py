"""Fetching on behalf of tools: one client that goes nowhere it should not.

`address` says which addresses are refused, `client` fetches, `fetcher` does so for other parts of the daemon,
`readable` turns a page into text. May import core.
"""
