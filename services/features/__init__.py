"""Features: closed bars in, feature vectors out."""
