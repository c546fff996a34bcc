"""The terminal UI, with a screen for each resource of a running daemon.

``daemon`` communicates with the daemon, ``link`` maintains the connection, ``screens`` contains the screens, and
``widgets`` contains their parts. The package imports only Textual and the client.
"""
