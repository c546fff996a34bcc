"""The OpenAI protocol adapter, one file per resource: hot resources over an `Exchange`, others as FastAPI routers."""
