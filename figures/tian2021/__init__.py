"""The figures of Tian et al. 2021."""
