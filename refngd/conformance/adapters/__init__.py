"""Implementations behind the one function `run(op, inputs, attrs) -> outputs`, to test them and to copy from."""
