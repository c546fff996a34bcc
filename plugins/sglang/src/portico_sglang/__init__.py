"""SGLang as an engine plugin for Portico."""
