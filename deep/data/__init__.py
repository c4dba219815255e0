"""Sets of images, their views and their order."""
