"""Distillation: a small model learns the answers of a larger model, and then answers behind the larger model's alias
where it is sure.
"""
