import pytest
import stand_in
import support


def pytest_addoption(parser):
    parser.addoption("--device", choices=("cpu", "gpu", "stand-in", "jitter"), default="cpu", help="where they run")


def pytest_configure(config):
    device = config.getoption("--device")
    if device in ("stand-in", "jitter"):
        stand_in.install(jitter=device == "jitter")
    support.DEVICE = "cpu" if device == "cpu" else "gpu"


def pytest_collection_modifyitems(items):
    """Ids are the same in every process, or `pytest -n` does not start."""
    changing = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if changing:
        raise pytest.UsageError(f"ids with an address: {changing}; name them by `ids`")


@pytest.fixture
def rng():
    return support.generator()
