"""OpenAI's Realtime API over WebSockets."""
