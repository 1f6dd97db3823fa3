"""One test a case. `plugin` fills it, if an implementation is given."""

from refngd.conformance.plugin import SUITE


def pytest_generate_tests(metafunc):
    suite = metafunc.config.stash.get(SUITE, None)
    selected = suite.selected if suite else []
    metafunc.parametrize("case", selected, ids=[case.id for case in selected])


def test_case(case, request):
    request.config.stash[SUITE].run(case, request.node)
