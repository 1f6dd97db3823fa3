"""What an adapter says of cases that its library is not for."""


def unsupported(condition: bool, reason: str) -> None:
    if condition:
        raise NotImplementedError(reason)
