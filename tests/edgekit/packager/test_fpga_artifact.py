"""FPGA packages in OCI registries: pushed, signed, verified, fetched, searched."""

import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgekit.cli.app import edgekit, run
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import Platform
from edgekit.oci.image import Settings, put_image
from edgekit.oci.layout import Layout
from edgekit.oci.reference import Reference
from edgekit.oci.transfer import push
from edgekit.registry import ArtefactQuery, ModelRef, Registry
from edgekit.workspace import Workspace
from tests.edgekit.oci.conftest import docker_registry, skopeo

from .test_command import address  # noqa: F401 - a fixture


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    """A registered model with packages for two boards, and a signing key."""
    monkeypatch.setenv("EDGEKIT_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))
    monkeypatch.chdir(tmp_path)
    registry = Registry.open(Workspace.create(tmp_path / "workspace"))
    Path("model").write_bytes(b"a model")
    registry.register(Path("model"), "digits-int8", framework="bytes")
    for board in ("ecp5-85f", "ice40-up5k"):
        Path("package").write_bytes(random.Random(board).randbytes(50_000))
        registry.record_graph(
            Path("package"), model=ModelRef("digits-int8", 1), board=board, cycles=7, proof={"a": 1}
        )
    assert run(["image", "keygen", "release.key"]) == 0
    return registry


def answer(*arguments):
    result = CliRunner().invoke(edgekit, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture
def pushed(request, address):  # noqa: F811
    """A signed package in a registry: its reference, and what `push` said."""
    request.getfixturevalue("workspace")
    target = f"{address}/npu/digits:1"
    package = "digits-int8:1@ecp5-85f"
    return target, answer("fpga", "push", package, target, "--sign", "release.key")


def test_what_is_pushed_is_verified_and_fetched(pushed, workspace):
    target, said = pushed
    found = answer("fpga", "verify", target, "--key", "release.key.pub")
    assert found["digest"] == said["digest"]
    assert sorted(each["statement"] for each in found["verified"]) == [
        "https://sigstore.dev/cosign/sign/v1",
        "https://slsa.dev/provenance/v1",
    ]
    fetched = answer("fpga", "pull", target, "-o", "out.npu", "--key", "release.key.pub")
    (record,) = workspace.graphs(ArtefactQuery(board="ecp5-85f"))
    assert Path("out.npu").read_bytes() == workspace.graph_file(record).read_bytes()
    assert fetched["digest"] == record.digest
    assert (fetched["model"], fetched["board"], fetched["cycles"]) == (
        "digits-int8:1",
        "ecp5-85f",
        7,
    )
    assert fetched["model_digest"] == workspace.get(ModelRef("digits-int8", 1)).digest


def test_the_same_package_has_one_digest_and_goes_once(pushed, address):  # noqa: F811
    target, said = pushed
    again = answer("fpga", "push", "digits-int8:1@ecp5-85f", target, "--sign", "release.key")
    assert (again["digest"], again["bytes_uploaded"]) == (said["digest"], 0)
    copied = answer("image", "copy", target, f"{address}/site/digits:1")
    assert (copied["digest"], copied["papers"]) == (said["digest"], 2)
    assert answer("fpga", "verify", f"{address}/site/digits:1", "--key", "release.key.pub")


def test_a_policy_holds_for_packages_too(pushed, capsys):
    target, _said = pushed
    policy = Path("policy.toml")
    policy.write_text('keys = ["release.key.pub"]\nbuilders = ["urn:edgekit:builder:local"]\n')
    assert answer("fpga", "verify", target, "--policy", "policy.toml")
    policy.write_text('keys = ["release.key.pub"]\nbuilders = ["urn:example:ci"]\n')
    assert run(["fpga", "verify", target, "--policy", "policy.toml"]) == 1
    assert "was built by urn:example:ci" in capsys.readouterr().err


@pytest.mark.usefixtures("workspace")
def test_an_unsigned_package_is_not_fetched_where_a_key_is_given(address, capsys):  # noqa: F811
    target = f"{address}/npu/digits:2"
    answer("fpga", "push", "digits-int8:1@ice40-up5k", target)
    assert run(["fpga", "pull", target, "-o", "out.npu", "--key", "release.key.pub"]) == 1
    assert "is not signed by any key" in capsys.readouterr().err
    assert not Path("out.npu").exists()
    assert answer("fpga", "pull", target, "-o", "out.npu")["verified"] is False


@pytest.mark.usefixtures("workspace")
def test_an_image_is_no_package(address, tmp_path, capsys):  # noqa: F811
    reference, blobs = Reference.parse(f"{address}/npu/other:1"), Blobs(tmp_path / "blobs")
    root = put_image(blobs, Platform("linux", "amd64"), Settings(), [])
    with RegistryClient(reference) as client:
        push(blobs, root, reference, client)
    assert run(["fpga", "pull", str(reference), "-o", "out.npu"]) == 1
    assert "is no FPGA package" in capsys.readouterr().err


@pytest.mark.needs("docker-registry")
@pytest.mark.needs("skopeo")
@pytest.mark.usefixtures("workspace")
def test_debians_registry_keeps_it_and_skopeo_reads_it(tmp_path):
    with docker_registry(tmp_path / "debians") as place:
        target = f"{place}/npu/digits:1"
        said = answer("fpga", "push", "digits-int8:1@ecp5-85f", target, "--sign", "release.key")
        seen = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{target}")
        assert json.loads(seen)["artifactType"] == "application/vnd.edgekit.fpga.package.v1"
        skopeo("copy", "--src-tls-verify=false", f"docker://{target}", f"oci:{tmp_path / 'copy'}:1")
        assert Layout(tmp_path / "copy").find("1").digest == said["digest"]
        fetched = answer("fpga", "pull", target, "-o", "out.npu", "--key", "release.key.pub")
        assert (fetched["verified"], fetched["manifest"]) == (True, said["digest"])
