"""Claims, their rules and their verdicts."""
