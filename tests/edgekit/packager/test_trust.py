"""From build to a site without a network: signed, with papers, verified, bundled."""

import json
from pathlib import Path

import pytest

from edgekit.cli.app import run

from .test_command import address, answer, call, workspace  # noqa: F401 - fixtures


@pytest.fixture
def signed(request, address):  # noqa: F811
    """A signed image in a registry; its reference and the public key's path."""
    request.getfixturevalue("workspace")
    target = f"{address}/edge/digits:1"
    call("keygen", "release.key")
    built = answer("build", "digits:1", "--push", target, "--sign", "release.key")
    return target, built["digest"]


def test_what_is_signed_is_verified(signed):
    target, digest = signed
    found = answer("verify", target, "--key", "release.key.pub")
    assert found["digest"] == digest
    assert sorted(each["statement"] for each in found["verified"]) == [
        "https://cyclonedx.org/bom",
        "https://sigstore.dev/cosign/sign/v1",
        "https://slsa.dev/provenance/v1",
    ]


def test_the_builder_is_checked(signed, capsys):
    target, _digest = signed
    arguments = ["image", "verify", target, "--key", "release.key.pub", "--builder"]
    assert run([*arguments, "urn:edgekit:builder:local"]) == 0
    assert run([*arguments, "urn:example:ci"]) == 1
    assert "was built by urn:example:ci" in capsys.readouterr().err


def test_another_key_verifies_nothing(signed, capsys):
    target, _digest = signed
    call("keygen", "other.key")
    assert run(["image", "verify", target, "--key", "other.key.pub"]) == 1
    assert "is not signed by any key of the policy" in capsys.readouterr().err


@pytest.mark.usefixtures("signed")
def test_no_key_is_replaced(capsys):
    assert run(["image", "keygen", "release.key"]) == 1
    assert "cannot write release.key" in capsys.readouterr().err


def test_a_copy_keeps_its_signature(signed, address):  # noqa: F811
    target, digest = signed
    goal = f"{address}/site/digits:1"
    copied = answer("copy", target, goal)
    assert (copied["digest"], copied["papers"]) == (digest, 3)
    assert answer("verify", goal, "--key", "release.key.pub")["digest"] == digest


def test_a_bundle_goes_where_no_network_is(signed, address, tmp_path):  # noqa: F811
    target, digest = signed
    answer("bundle", target, "digits.tar")
    goal = f"{address}/offline/digits:1"
    for place in (goal, "oci:site"):
        brought = answer("unbundle", "digits.tar", place, "--key", "release.key.pub")
        assert (brought["digest"], brought["papers"]) == (digest, 3)
        assert answer("verify", place, "--key", "release.key.pub")["digest"] == digest
    assert (tmp_path / "site" / "index.json").exists()


def test_a_bundle_that_was_changed_is_refused(signed, tmp_path, capsys):
    target, _digest = signed
    answer("bundle", target, "digits.tar")
    data = bytearray((tmp_path / "digits.tar").read_bytes())
    data[data.index(b"edgekit.model")] ^= 1
    (tmp_path / "digits.tar").write_bytes(data)
    assert run(["image", "unbundle", "digits.tar", "oci:site"]) == 1
    assert "expected sha256:" in capsys.readouterr().err


@pytest.mark.usefixtures("workspace")
def test_a_layout_is_signed_and_verified_without_a_registry():
    built = answer("build", "digits:1", "--output", "oci:out")
    call("keygen", "release.key")
    assert len(answer("sign", "oci:out", "--key", "release.key")["statements"]) == 3
    found = answer("verify", "oci:out", "--key", "release.key.pub")
    assert found["digest"] == built["digest"]


@pytest.mark.usefixtures("workspace")
def test_the_bill_of_material_is_valid_and_names_everything():
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    built = answer("build", "digits:1")
    text = call("sbom", "digits:1").stdout
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    value = json.loads(text)
    assert value["metadata"]["component"]["bom-ref"] == built["digest"]
    components = {each["name"]: each for each in value["components"]}
    assert components["libc6"]["purl"].startswith("pkg:deb/debian/libc6@2.36-9")
    assert components["numpy"]["purl"].startswith("pkg:pypi/numpy@2.0")
    assert components["digits"]["type"] == "machine-learning-model"
    assert call("sbom", "digits:1").stdout == text


def test_diff_tells_what_a_device_would_fetch(workspace):  # noqa: F811
    from edgekit.registry import Registry

    from .test_command import DIGITS

    answer("build", "digits:1")
    registry = Registry.open(workspace)
    other = workspace.folder / "other.onnx"
    import onnx

    model = onnx.load(DIGITS)
    model.doc_string = "another"
    onnx.save(model, other)
    registry.register(other, "digits")
    answer("build", "digits:2")
    result = call("diff", "digits:1", "digits:2", "--json")
    assert [(each["by"], each["change"]) for each in json.loads(result.stdout)["changes"]] == [
        ("model", "changed"),
        ("model", "changed"),
    ]
    assert run(["image", "diff", "digits:1", "digits:2"]) == 3
    assert run(["image", "diff", "digits:1", "digits:1"]) == 0


@pytest.mark.usefixtures("workspace")
def test_delete_takes_it_from_the_registry_and_the_records(address, capsys):  # noqa: F811
    target = f"{address}/edge/digits:1"
    answer("build", "digits:1", "--push", target)
    assert answer("delete", target) == {"deleted": [target]}
    assert answer("list") == {"images": []}
    assert run(["image", "show", target]) == 1
    assert "is not there" in capsys.readouterr().err


@pytest.mark.usefixtures("workspace")
def test_delete_by_model_forgets_what_is_recorded():
    answer("build", "digits:1")
    answer("delete", "digits:1")
    assert answer("list") == {"images": []}


@pytest.mark.needs("softhsm2")
def test_a_key_in_a_token_signs(request, address, token):  # noqa: F811
    request.getfixturevalue("workspace")
    key, target = token.format("command"), f"{address}/edge/digits:1"
    call("keygen", key, "--public", "token.pub")
    answer("build", "digits:1", "--push", target, "--sign", key)
    found = answer("verify", target, "--key", "token.pub")["verified"]
    assert len(found) == 3
    assert call("public-key", key).stdout == Path("token.pub").read_text()

    # what is signed already is not signed again, though a token's signatures differ each time
    answer("sign", target, "--key", key)
    assert answer("verify", target, "--key", "token.pub")["verified"] == found


@pytest.mark.usefixtures("signed")
def test_keygen_replaces_neither_of_its_files(capsys):
    assert run(["image", "keygen", "new.key", "--public", "release.key.pub"]) == 1
    assert "cannot write release.key.pub" in capsys.readouterr().err
    assert not Path("new.key").exists()


def test_a_bundle_is_taken_as_a_policy_says(signed, address, capsys):  # noqa: F811
    target, digest = signed
    call("bundle", target, "site.tar")
    policy, goal = Path("policy.toml"), f"{address}/site/digits:1"
    policy.write_text('keys = ["release.key.pub"]\nbuilders = ["urn:example:ci"]\n')
    assert run(["image", "unbundle", "site.tar", goal, "--policy", "policy.toml"]) == 1
    assert "was built by urn:example:ci" in capsys.readouterr().err
    policy.write_text('keys = ["release.key.pub"]\n')
    assert answer("unbundle", "site.tar", goal, "--policy", "policy.toml")["digest"] == digest
