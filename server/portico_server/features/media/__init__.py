"""OpenAI's APIs of speech, transcriptions and pictures."""
