"""SGLang as an engine of Portico, a plugin."""
