"""The engine `vllm`: vLLM's own server, in an environment of its own."""
