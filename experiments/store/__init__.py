"""What is finished and kept."""
