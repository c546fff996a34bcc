"""The terminal UI, with a screen for each resource of a running daemon.

``daemon`` communicates with the daemon, ``link`` maintains the connection, ``screens`` contains the screens,
``widgets`` their parts. Imports Textual and the client.
"""
