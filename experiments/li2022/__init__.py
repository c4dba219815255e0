"""Li, Efros & Pathak 2022: the grid of runs, its claims, the paper's own scatter, and the theory of its metric."""
