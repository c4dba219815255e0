"""Outcomes over grids: phase diagrams, borders, basins."""
