"""A score script that would not import is refused before there is an image."""

import pytest

from edgekit.errors import ImageError
from edgekit.oci.descriptor import Platform
from edgekit.packager.image import build_image
from edgekit.packager.imports import imported
from edgekit.packager.plan import plan_image

AMD64 = Platform("linux", "amd64")


def build(store, model, path, text):
    path.write_text(text)
    return build_image(plan_image(model(), store, (AMD64,), score=path), store)


@pytest.fixture
def score(tmp_path):
    return tmp_path / "score.py"


@pytest.mark.parametrize(
    "text",
    [
        "import json, numpy\n",
        "import numpy.linalg as la\nfrom numpy import array\n",
        "from edgekit_runtime import scorer\n",
        "try:\n    import scipy\nexcept ImportError:\n    scipy = None\n",
        "def run(x):\n    import scipy\n",
        "from . import sibling\n",
    ],
)
def test_what_is_there_or_may_fail_is_no_reason(store, model, score, text):
    assert build(store, model, score, text)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("import scipy\n", "imports scipy, which"),
        ("import scipy.signal, numpy\nfrom PIL import Image\n", "imports PIL, scipy, which"),
        ("with open('x'):\n    import scipy\n", "imports scipy, which"),
    ],
)
def test_what_nothing_brings_is_named(store, model, score, text, missing):
    with pytest.raises(ImageError, match=missing) as error:
        build(store, model, score, text)
    assert "--requirements" in error.value.hint
    assert not (store.cache / "images").exists()


def test_the_first_names_of_what_is_imported_always(score):
    score.write_text("import a.b\nfrom c.d import e\nclass X:\n    import f\nif 1:\n    import g\n")
    assert imported(score) == {"a", "c", "f"}
