"""What a prompt is, and those that come with Portico. Imports the core alone; the library is in ``apps/prompts``."""
