"""Engines that are third-party servers. Each runs in a guarded process and is called with its own variant of the
API.
"""
