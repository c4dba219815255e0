"""What all wings share and no equation needs."""
