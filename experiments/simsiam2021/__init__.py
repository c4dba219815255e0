"""Chen & He 2021 (SimSiam): the grid of runs, and the claims about networks and about theory alone."""
