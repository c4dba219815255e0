"""What `python -m experiments` can be asked."""
