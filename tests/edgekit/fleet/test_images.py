import onnx
import pytest
from onnx import TensorProto, helper

from edgekit.errors import ManifestError, NotFound
from edgekit.fleet import from_table, recorded
from edgekit.fleet.images import resolve
from edgekit.registry import ModelRef, Registry
from edgekit.workspace import Workspace

ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")


@pytest.fixture
def registry(tmp_path):
    """A registry with two versions of a model called digits."""
    sides = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("in", "out")
    ]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["in"], ["out"])], "g", *map(list, zip(sides))
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    opened = Registry.open(Workspace.create(tmp_path / "workspace"))
    opened.register(tmp_path / "m.onnx", "digits")
    opened.register(tmp_path / "m.onnx", "digits")
    return opened


def record(registry, model, reference, digest):
    registry.record_image(
        ModelRef.parse(model), digest=digest, reference=reference, platforms=["linux/amd64"]
    )


def test_a_model_is_its_newest_image_by_digest(registry):
    record(registry, "digits:1", "localhost:5000/team/digits:1", ONE)
    record(registry, "digits:1", "localhost:5000/team/digits:1", TWO)
    record(registry, "digits:1", "oci:out", THREE)
    resolver = recorded(lambda: registry)
    assert resolve("digits:1", resolver) == f"localhost:5000/team/digits@{TWO}"


def test_a_name_alone_is_the_newest_version_even_if_an_older_was_built_last(registry):
    record(registry, "digits:2", f"host/digits@{TWO}", TWO)
    record(registry, "digits:1", "host/digits", ONE)
    resolver = recorded(lambda: registry)
    assert resolve("digits", resolver) == f"host/digits@{TWO}"
    assert resolve("digits:latest", resolver) == f"host/digits@{TWO}"


def test_an_image_in_a_folder_cannot_be_pulled(registry):
    record(registry, "digits:1", "oci:out", ONE)
    resolver = recorded(lambda: registry)
    with pytest.raises(ManifestError, match="no image of digits:1 is in a registry but in oci:out"):
        resolve("digits:1", resolver)
    with pytest.raises(ManifestError, match=r"no image of digits:2 is in a registry$"):
        resolve("digits:2", resolver)
    with pytest.raises(NotFound):
        resolve("digits:3", resolver)


def test_the_table_comes_before_the_records_which_open_when_asked(registry):
    record(registry, "digits:2", "host/digits:2", TWO)
    opened = []
    resolver = from_table(
        {"digits:1": f"mine/digits@{ONE}"}, recorded(lambda: opened.append(1) or registry)
    )
    assert (resolve("digits:1", resolver), opened) == (f"mine/digits@{ONE}", [])
    assert resolve("digits:2", resolver) == f"host/digits@{TWO}"
    assert resolve("digits:2", resolver) == f"host/digits@{TWO}"
    assert opened == [1]
