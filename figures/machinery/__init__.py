"""From data to a picture, and whether it is current."""
