"""A plugin written for a future version of the interface."""

PORTICO_PLUGIN_API = 2
CHUNKER = None
