"""The OpenAI protocol adapter, one file per resource. Resources on the hot path use an `Exchange`, others are FastAPI
routers.
"""
