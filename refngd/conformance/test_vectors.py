"""One test a case. `plugin` fills it."""

from refngd.conformance.plugin import SUITE


def pytest_generate_tests(metafunc):
    selected = metafunc.config.stash[SUITE].selected
    metafunc.parametrize("case", selected, ids=[case.id for case in selected])


def test_case(case, request):
    request.config.stash[SUITE].run(case, request.node)
