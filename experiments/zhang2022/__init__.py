"""Zhang et al. 2022: how SimSiam avoids collapse, the gradient taken apart."""
