"""The OpenAI protocol adapter, one file per resource: hot ones over an `Exchange`, others as FastAPI routers."""
