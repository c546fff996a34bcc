"""HTTP API of distillations."""
