"""The OpenAI face, one file per resource. The hot ones are functions over an `Exchange`, the others FastAPI routers."""
