import pytest
import stand_in
import support


def pytest_addoption(parser):
    parser.addoption("--device", choices=("cpu", "gpu", "stand-in"), default="cpu", help="where the tests run")


def pytest_configure(config):
    device = config.getoption("--device")
    if device == "stand-in":
        stand_in.install()
    support.DEVICE = "cpu" if device == "cpu" else "gpu"


@pytest.fixture
def rng():
    return support.generator()
