"""HTTP APIs of stores: the native one and OpenAI's vector stores."""
