"""Python code of a model that calls the daemon's tools, models, stores and apps as functions."""
