"""Linear Siamese networks trained on samples."""
