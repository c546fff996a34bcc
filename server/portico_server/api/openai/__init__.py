"""The OpenAI face, one file per resource: hot ones over an `Exchange`, others as FastAPI routers."""
