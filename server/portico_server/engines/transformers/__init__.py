"""The engine `transformers`: folders with safetensors that no other engine takes here, on CPU or GPU."""
