"""What pytest imports at the start of any run: it brings in the suite if that is asked for, else nothing.

It installs as a package of its own, since importing `refngd` would import NumPy. Options are added only in runs of the
suite, so that they clash with nobody's.
"""

import re


def pytest_load_initial_conftests(early_config, args):
    if any(re.search(r"^refngd\.conformance\b|\brefngd[/\\]conformance\b", str(arg)) for arg in args):
        early_config.pluginmanager.import_plugin("refngd.conformance.plugin")
