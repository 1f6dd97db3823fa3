"""Arrays of any number of axes as nested lists; a number is an array without axes."""


def flatten(array):
    """Numbers of nested lists, row-major."""
    return [number for part in array for number in flatten(part)] if isinstance(array, (list, tuple)) else [array]


def shape(array):
    return [len(array), *shape(array[0])] if isinstance(array, (list, tuple)) else []


def like(array, numbers):
    """The numbers of an iterator in the nesting of `array`."""
    return [like(part, numbers) for part in array] if isinstance(array, (list, tuple)) else next(numbers)
