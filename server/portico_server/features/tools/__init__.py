"""Tools for models: each has a name, a JSON schema and a call."""
