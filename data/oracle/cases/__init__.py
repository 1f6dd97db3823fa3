"""The cases, by operation. Ids are permanent: cases are appended to the book of their operation."""

from . import cuts, deep, directions, edges, frozen, passes, second, sought, steps, theory, third, unnoticed
from .problems import Book

PARTS = (passes, directions, theory, deep, cuts)
ABOUT = {name: text for part in (*PARTS, second, edges, steps, third, sought) for name, text in part.ABOUT.items()}


def cases(operation):
    """All cases of an operation, in the order of their ids."""
    books = {make.__name__: make for part in PARTS for make in part.BOOKS}
    book = books[operation]() if operation in books else Book(operation)
    for later in (second, edges, steps, third, frozen, unnoticed, sought):
        book = later.extend(book)
    return book.cases
