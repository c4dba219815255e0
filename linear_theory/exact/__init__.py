"""What can be said of the flows without integrating them."""
