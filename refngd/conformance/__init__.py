"""Certified test vectors for natural gradient descent: the oracle that makes them. The format: data/vectors/README.md."""
