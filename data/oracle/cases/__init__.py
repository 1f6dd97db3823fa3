"""The cases, by operation. Ids are permanent: cases are appended to the book of their operation."""

from . import deep, directions, passes, theory

PARTS = (passes, directions, theory, deep)
ABOUT = {name: text for part in PARTS for name, text in part.ABOUT.items()}


def cases(operation):
    """All cases of an operation, in the order of their ids."""
    books = {make.__name__: make for part in PARTS for make in part.BOOKS}
    return books[operation]().cases
