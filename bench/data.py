"""The data that figures of K&O take: by the name that --data has."""

from refngd import datasets

Part = tuple  # x (n, M_0), labels (n,)
PUBLISHED = {"mnist": datasets.mnist, "cifar10": datasets.cifar10}


def two_parts(given: str, classes: list[int]) -> list[Part]:
    """The training and the test part of mnist-sample, NAME or NAME:FOLDER, NAME a key of PUBLISHED."""
    name, _, folder = given.partition(":")
    if given == "mnist-sample":
        return [datasets.mnist_sample(part, classes) for part in ("train", "test")]
    return [PUBLISHED[name](part, folder or None, classes) for part in ("train", "test")]
