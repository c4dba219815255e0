"""Other people's checkpoints: what each framework calls the parts of a network, and the network rebuilt from them."""
