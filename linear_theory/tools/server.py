"""What a server of processes loads before all else: whatever is imported after it comes in a fifth less time."""

from stopgrad.linear_theory.tools.garbage import seldom_collect

seldom_collect()
