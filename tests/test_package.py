"""The package as a whole: what importing it costs, what it says of itself, and the README's code."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import refngd as rn
from bench import structure

ROOT = Path(__file__).parent.parent


def test_import_is_lean():
    code = (
        "import sys, refngd; print([m for m in sys.modules "
        "if m in ('scipy.integrate', 'matplotlib', 'cupy', 'tqdm', 'pooch', 'scipy.special', 'scipy.linalg', "
        "'argparse')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_is_the_same_everywhere():
    for name in ("setup.cfg", "CITATION.cff"):
        assert re.search(r"^version\W+([\d.]+)", (ROOT / name).read_text(), re.M).group(1) == rn.__version__


def test_public_names_have_docstrings():
    for name, thing in vars(rn).items():
        if not name.startswith("_") and getattr(thing, "__module__", "").startswith("refngd"):
            assert thing.__doc__, name


def test_code_of_the_readme_does_what_it_says():
    """The last two names that each python block makes: the same natural gradient; what the flow conserves."""
    core, linear = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    names = {}
    exec(core, names)
    np.testing.assert_allclose(names["same"], names["dtheta"], rtol=1e-6)
    exec(linear, names)
    for before, after in zip(names["before"], names["after"], strict=True):
        np.testing.assert_allclose(after, before, atol=1e-10)
    assert names["last"].loss < 0.1 * rn.deep_linear.loss(names["w"], names["data"])


def test_every_file_that_the_readmes_name_exists():
    for readme in (path for path in ROOT.rglob("README.md") if not {".venv", "build"} & set(path.parts)):
        for target in re.findall(r"\]\(([^)#:]+)\)", readme.read_text()):
            assert (readme.parent / target).exists(), f"{readme}: {target}"


def test_the_picture_of_the_readme_shows_what_each_approximation_keeps(tmp_path):
    """Entries of G that are not zero, for (4, 5, 4, 1) with bias: P = 25 + 24 + 5, units of 5, 6 and 5 parameters."""
    G = structure.matrices()
    kept = {name: np.count_nonzero(matrix) for name, matrix in G.items()}
    layers, units, P = 25**2 + 24**2 + 5**2, 5 * 5**2 + 4 * 6**2 + 5**2, 54
    assert kept["exact"] == P * P
    assert kept["block tri-diagonal"] == P * P - 2 * 25 * 5
    assert kept["block-diagonal"] == kept["K-FAC"] == layers
    assert kept["unit-wise"] == kept["quasi-diagonal"] == units
    assert kept["diagonal"] == kept["gradient descent"] == P
    structure.main(["--out", str(tmp_path / "structure.png")])
    assert (tmp_path / "structure.png").stat().st_size > 10_000
