"""Certified test vectors for natural gradient descent, and the oracle that makes them: see data/vectors/README.md."""
