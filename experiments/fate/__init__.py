"""What becomes of a run, told from its recipe and its first tenth, and scored on runs that were not looked at."""
