"""Plugins that raise, exit, return values of wrong types, or take the names of others."""

PORTICO_PLUGIN_API = 1
