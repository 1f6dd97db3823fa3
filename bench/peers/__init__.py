"""Thin adapters between the vectors and other libraries: see ../peers.md for what they show."""
