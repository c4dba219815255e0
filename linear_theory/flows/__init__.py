"""The equations, each once."""
