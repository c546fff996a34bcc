"""Written for a version of the interface that is to come."""

PORTICO_PLUGIN_API = 2
CHUNKER = None
