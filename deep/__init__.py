"""Real networks: ResNet SimSiam and BYOL, trained with the theory's switches and measured while they train."""
