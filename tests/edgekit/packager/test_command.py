"""`edgekit image`, as a user types it."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli.app import edgekit, run
from edgekit.registry import ArtefactQuery, ModelRef, Registry
from edgekit.workspace import Workspace
from edgekit_sim.ociregistry import Registry as ImageRegistry

DIGITS = Path(__file__).parents[3] / "examples" / "digits" / "digits.onnx"


@pytest.fixture
def workspace(tmp_path, monkeypatch, store):
    """A workspace with the digits model, and small packages and wheels in its cache."""
    folder = tmp_path / "workspace"
    monkeypatch.setenv("EDGEKIT_WORKSPACE", str(folder))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))
    monkeypatch.chdir(tmp_path)
    made = Workspace.create(folder)
    shutil.copytree(store.cache, made.cache, dirs_exist_ok=True)
    shutil.copytree(store.locks, folder / "locks")
    Registry.open(made).register(DIGITS, "digits")
    return made


def call(*arguments):
    result = CliRunner().invoke(edgekit, ["image", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def answer(*arguments):
    return json.loads(call(*arguments, "--json").stdout)


@pytest.fixture
def address(tmp_path):
    with ImageRegistry(tmp_path / "registry") as registry:
        yield registry.address


def test_build_and_push_say_what_they_did(workspace, address):
    target = f"{address}/edge/digits:1"
    first = answer("build", "digits:1", "--push", target)
    assert first["platforms"] == ["linux/amd64", "linux/arm64"]
    assert [layer["name"] for layer in first["layers"]].count("model") == 1
    assert first["bytes_uploaded"] > sum(layer["size"] for layer in first["layers"])
    again = answer("build", "digits", "--push", target)
    assert (again["digest"], again["bytes_uploaded"]) == (first["digest"], 0)
    (record,) = Registry.open(workspace).images(ArtefactQuery(model=ModelRef("digits", 1)))
    assert (record.digest, record.reference) == (first["digest"], target)


def test_an_fpga_image_is_built_from_the_registry(workspace, store):
    from edgekit.packager.wheels import FPGA_REQUIREMENTS
    from tests.edgekit_fpga.graphs import small_net

    registry, file = Registry.open(workspace), Path("net.onnx")
    file.write_bytes(small_net(0))
    registry.register(file, "net-int8")
    lock = store.read_lock("wheels-3.11") | {"requirements": sorted(FPGA_REQUIREMENTS)}
    locks = workspace.folder / "locks"
    (locks / "wheels-fpga-3.11.json").write_text(json.dumps(lock))
    built = answer("build", "net-int8:1", "--fpga", "ecp5-85f")
    (package,) = registry.graphs(ArtefactQuery(model=ModelRef("net-int8", 1)))
    assert package.board == "ecp5-85f"
    (image,) = registry.images(ArtefactQuery(model=ModelRef("net-int8", 1)))
    assert (image.digest, image.properties) == (built["digest"], {"fpga.board": "ecp5-85f"})
    assert answer("build", "net-int8:1", "--fpga", "ecp5-85f")["digest"] == built["digest"]
    assert registry.graphs(ArtefactQuery(model=ModelRef("net-int8", 1))) == [package]
    refused = call("build", "net-int8:1", "--fpga", "ecp5-85f", "--score", str(file))
    assert (refused.exit_code, "--fpga serves a package" in refused.output) == (2, True)


@pytest.mark.usefixtures("workspace")
def test_what_was_built_is_pushed_later(address):
    built = answer("build", "digits:1")
    pushed = answer("push", "digits:1", f"{address}/digits:1")
    assert pushed["digest"] == built["digest"]
    assert pushed["bytes_uploaded"] > 0
    assert {image["reference"] for image in answer("list")["images"]} == {
        "local",
        f"{address}/digits:1",
    }


@pytest.mark.parametrize("place", ["local", "layout", "registry"])
@pytest.mark.usefixtures("workspace")
def test_show_tells_who_brought_a_layer(address, place):
    target = f"{address}/digits:1"
    built = answer("build", "digits:1", "--output", "oci:out", "--push", target)
    name = {"local": "digits:1", "layout": "oci:out", "registry": target}[place]
    shown = answer("show", name)
    assert shown["digest"] == built["digest"]
    assert [layer["by"] for layer in shown["platforms"][1]["layers"]] == [
        "base",
        "wheels",
        "runtime",
        "model",
    ]


@pytest.mark.usefixtures("workspace")
def test_an_archive_is_for_this_machine_unless_told(tmp_path):
    built = answer("build", "digits:1", "--output", "docker-archive:image.tar")
    assert len(built["platforms"]) == 1
    assert (tmp_path / "image.tar").stat().st_size > 0


@pytest.mark.usefixtures("workspace")
def test_tables_fit_and_name_the_layers():
    call("build", "digits:1")
    shown = call("show", "digits:1").stdout
    assert "brought by" in shown
    listed = call("list").stdout
    assert "digits:1" in listed
    assert max(len(line) for line in (shown + listed).splitlines()) <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "other:1"], "other"),
        (["build", "digits:1", "--platform", "arm"], "'arm' is no platform"),
        (
            ["build", "digits:1", "--platform", "linux/riscv64"],
            "no base from Debian for linux/riscv64",
        ),
        (["build", "digits:1", "--output", "zip:x"], "write oci:FOLDER"),
        (["build", "digits:1", "--push", "digits:1"], "does not name a registry"),
        (["build", "digits:1", "--push", "127.0.0.1:1/digits:1"], "no registry answers"),
        (["build", "digits:1", "--base", "alpine"], "'alpine' is no base"),
        (["build", "digits:1", "--score", "gone.py"], "cannot read gone.py"),
        (["show", "digits:1"], "edgekit image build digits:1"),
        (["show", "oci:gone"], "is no OCI layout"),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_mistakes_are_told_in_one_line(capsys, arguments, message):
    assert run(["image", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1
