"""Fetching on behalf of tools: one client that refuses forbidden addresses.

`address` decides which addresses are refused, `client` fetches, `fetcher` does so for other parts of the daemon,
`readable` turns a page into text. Can import core.
"""
