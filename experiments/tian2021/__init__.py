"""Tian, Chen & Ganguli 2021: the grid of runs, and the claims about networks and about theory alone."""
