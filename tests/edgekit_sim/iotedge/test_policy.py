"""A device that runs signed images only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.keys import new_key
from edgekit.oci.reference import Reference
from edgekit.oci.signers import open_signer
from edgekit.oci.signing import SIGNED, Policy, Statement
from edgekit.oci.transfer import copy, fetch_root
from edgekit.packager.materials import LOCAL_BUILDER
from edgekit.packager.papers import sign_remote
from edgekit_sim.iotedge import EdgeDevice
from edgekit_sim.iotedge.engine import Launch
from edgekit_sim.iotedge.errors import DeviceError, ModuleFailed
from edgekit_sim.iotedge.process_engine import ProcessEngine
from edgekit_sim.iotedge.verifying import VerifyingEngine
from edgekit_sim.lifeline import Lifeline

Eventually = Callable[..., Any]


class Keys:
    """The key that the device trusts and one that it does not, and its policy's file."""

    def __init__(self, folder: Path) -> None:
        for name in ("ours", "other"):
            private, public = new_key()
            (folder / name).write_bytes(private)
            (folder / f"{name}.pub").write_bytes(public)
        self.ours, self.other = folder / "ours", folder / "other"
        self.file = folder / "policy.toml"
        self.file.write_text('keys = ["ours.pub"]\n')


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    return Keys(tmp_path)


def place(image: str, name: str, folder: Path, key: Path | None = None) -> str:
    """Copy the image under another name, signed by a key; where it is by tag."""
    source = Reference.parse(image)
    goal = Reference.parse(f"{source.registry}/{name}:1")
    blobs = Blobs(folder / "placed")
    with RegistryClient(source) as client:
        copy(source, goal, client, client, blobs)
        root = fetch_root(goal, blobs, client)
        if key:
            said = [Statement(root.digest, SIGNED, {})]
            with open_signer(str(key)) as signer:
                sign_remote(goal, root, said, signer, client, blobs)
    return str(goal)


def test_only_what_is_signed_runs(
    site: Any, keys: Keys, tmp_path: Path, eventually: Eventually
) -> None:
    signed = place(site.image, "signed", tmp_path, keys.ours)
    scorer = site.module("scorer")
    site.deploy({"scorer": scorer})
    with EdgeDevice(site.changed(policy=str(keys.file))) as device:
        eventually(lambda: site.reported().get("lastDesiredStatus", {}).get("code") == 500)
        said = site.reported()["lastDesiredStatus"]["description"]
        assert said.startswith(f"{site.image} is refused: sha256:")
        assert said.endswith("is not signed by any key of the policy")
        assert site.reported()["modules"] == {}

        scorer["settings"]["image"] = signed
        site.deploy({"scorer": scorer})
        device.wait_ready(modules=["scorer"])
        assert site.reported()["modules"]["scorer"]["settings"]["image"] == signed


def test_a_policy_that_does_not_read_keeps_the_device_from_starting(site: Any, keys: Keys) -> None:
    keys.file.write_text('keys = ["nothing.pub"]\n')
    with pytest.raises(DeviceError, match=r"cannot read .*nothing.pub"):
        EdgeDevice(site.changed(policy=str(keys.file))).start()


@pytest.fixture
def engine(keys: Keys, tmp_path: Path) -> Any:
    with Lifeline("test") as line:
        below = ProcessEngine(tmp_path / "cache", tmp_path / "logs", line)
        yield VerifyingEngine(below, Policy.read(keys.file), tmp_path / "signed.json")


@pytest.mark.parametrize("signer", ["nobody", "other"])
def test_it_says_why_it_refuses(
    engine: VerifyingEngine, python_image: str, keys: Keys, tmp_path: Path, signer: str
) -> None:
    key = keys.other if signer == "other" else None
    image = place(python_image, f"by-{signer}", tmp_path, key)
    with pytest.raises(ModuleFailed, match=r"is refused: sha256:.* not signed by any key"):
        engine.pull(image)
    with pytest.raises(ModuleFailed, match="was not pulled"):
        engine.start(Launch("m", image, {}, {}, tmp_path, tmp_path, tmp_path))


def test_a_builder_may_be_wanted_too(python_image: str, keys: Keys, tmp_path: Path) -> None:
    keys.file.write_text(f'keys = ["ours.pub"]\nbuilders = ["{LOCAL_BUILDER}"]\n')
    image = place(python_image, "no-provenance", tmp_path, keys.ours)
    with Lifeline("test") as line:
        below = ProcessEngine(tmp_path / "cache", tmp_path / "logs", line)
        engine = VerifyingEngine(below, Policy.read(keys.file), tmp_path / "signed.json")
        with pytest.raises(ModuleFailed, match="no signed provenance says"):
            engine.pull(image)


def test_an_image_of_no_registry_is_refused(engine: VerifyingEngine) -> None:
    with pytest.raises(ModuleFailed, match="does not name a registry"):
        engine.pull("digits:1")


def test_what_was_judged_is_known_after_a_restart_under_the_same_policy_only(
    engine: VerifyingEngine, python_image: str, keys: Keys, tmp_path: Path
) -> None:
    image = place(python_image, "known", tmp_path, keys.ours)
    engine.pull(image)
    digest = Reference.parse(python_image).digest
    unsigned = python_image.replace("python@", "by-nobody-yet@")
    place(python_image, "by-nobody-yet", tmp_path)

    with Lifeline("test") as line:
        below = ProcessEngine(tmp_path / "cache", tmp_path / "logs", line)
        known = tmp_path / "signed.json"
        assert digest in known.read_text()
        VerifyingEngine(below, Policy.read(keys.file), known).pull(unsigned)
        keys.file.write_text('keys = ["other.pub"]\n')
        with pytest.raises(ModuleFailed, match="not signed"):
            VerifyingEngine(below, Policy.read(keys.file), known).pull(unsigned)


@pytest.mark.parametrize(
    "text", ["keys = [", 'keys = "ours.pub"', "keys = []", "keys = [1]", 'key = ["ours.pub"]']
)
def test_a_policy_says_what_is_wrong_with_it(keys: Keys, text: str) -> None:
    from edgekit.errors import OciError

    keys.file.write_text(text)
    with pytest.raises(OciError, match="policy"):
        Policy.read(keys.file)
