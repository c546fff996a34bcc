"""Fetching on behalf of tools: one client that refuses forbidden addresses.

`policy` decides which addresses are refused, `client` fetches, `fetcher` fetches for other parts of the daemon,
`readable` converts a page to text. Can import core.
"""
