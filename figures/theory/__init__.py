"""Pictures of the theory alone."""
