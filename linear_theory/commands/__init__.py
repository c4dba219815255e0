"""What `python -m linear_theory` can be asked."""
