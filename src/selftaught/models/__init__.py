"""Where answers come from: OpenAI-compatible endpoints, and the name by which one is chosen."""
