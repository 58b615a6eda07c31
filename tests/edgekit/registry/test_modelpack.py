"""Models in OCI registries, judged by Debian's docker-registry and by skopeo."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edgekit.errors import Corrupt, EdgekitError, ModelError, OciError, RegistryError
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import MANIFEST, Descriptor, canonical_json, parse_json
from edgekit.oci.reference import Reference
from edgekit.registry import ModelRef, ModelVersion, Registry
from edgekit.registry import modelpack as mp
from edgekit.registry.records import ModelFile
from edgekit.workspace import Workspace
from edgekit_sim.ociregistry import Registry as SimulatedRegistry
from tests.edgekit.oci.conftest import docker_registry, skopeo
from tests.edgekit.registry.test_files import SCORE, save_apart


@pytest.fixture(autouse=True)
def _no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker-config"))


@pytest.fixture
def here(tmp_path: Path) -> Registry:
    return Registry.open(Workspace.create(tmp_path / "here"))


@pytest.fixture
def there(tmp_path: Path) -> Registry:
    return Registry.open(Workspace.create(tmp_path / "there"))


@pytest.fixture
def simulated(tmp_path: Path) -> Iterator[str]:
    with SimulatedRegistry(tmp_path / "oci-registry") as registry:
        yield registry.address


@pytest.fixture(
    params=["simulated", pytest.param("debians", marks=pytest.mark.needs("docker-registry"))]
)
def place(request: pytest.FixtureRequest) -> Reference:
    """Where models go: a repository of the simulator's registry, then of Debian's."""
    return Reference.parse(f"{request.getfixturevalue(request.param)}/models/digits:1")


@pytest.fixture
def debians(tmp_path: Path) -> Iterator[str]:
    with docker_registry(tmp_path / "docker-registry") as address:
        yield address


@pytest.fixture
def client(place: Reference) -> Iterator[RegistryClient]:
    with RegistryClient(place, backoff=0) as made:
        yield made


def same_but_where(version: ModelVersion) -> ModelVersion:
    """What does not depend on where and when it was registered."""
    return replace(version, created=datetime.fromtimestamp(0, UTC), aliases=())


GOLDEN = {
    "annotations": {
        "edgekit.model": "digits-int8:2",
        "edgekit.model.framework": "onnx",
        "edgekit.parent": f"digits:1@sha256:{'9' * 64}",
        "edgekit.properties": '{"data": "uci"}',
        "edgekit.tags": '{"a": "1", "b": "2"}',
        "org.opencontainers.image.created": "2026-01-02T03:04:05Z",
        "org.opencontainers.image.title": "digits-int8",
        "org.opencontainers.image.version": "2",
    },
    "artifactType": "application/vnd.cncf.model.manifest.v1+json",
    "config": {
        "digest": "sha256:e98950106cdd62716e05fa37e2b079a1626419baa3b2de8ac598ce88f0ab6f11",
        "mediaType": "application/vnd.cncf.model.config.v1+json",
        "size": 375,
    },
    "layers": [
        {
            "annotations": {
                "edgekit.model.role": "model",
                "org.cncf.model.filepath": "digits.onnx",
                "org.opencontainers.image.title": "digits.onnx",
            },
            "digest": f"sha256:{'1' * 64}",
            "mediaType": "application/vnd.cncf.model.weight.v1.raw",
            "size": 1000,
        },
        {
            "annotations": {
                "edgekit.model.role": "score",
                "org.cncf.model.filepath": "score.py",
                "org.opencontainers.image.title": "score.py",
            },
            "digest": f"sha256:{'3' * 64}",
            "mediaType": "application/vnd.cncf.model.code.v1.raw",
            "size": 30,
        },
        {
            "annotations": {
                "edgekit.model.role": "weights",
                "org.cncf.model.filepath": "w/w.bin",
                "org.opencontainers.image.title": "w/w.bin",
            },
            "digest": f"sha256:{'2' * 64}",
            "mediaType": "application/vnd.cncf.model.weight.v1.raw",
            "size": 2000,
        },
    ],
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "schemaVersion": 2,
}
GOLDEN_CONFIG = {
    "config": {"format": "onnx"},
    "descriptor": {"createdAt": "2026-01-02T03:04:05Z", "name": "digits-int8", "version": "2"},
    "modelfs": {"diffIds": [f"sha256:{digit * 64}" for digit in "132"], "type": "layers"},
}


def test_the_manifest_is_this_to_the_byte(tmp_path: Path) -> None:
    version = ModelVersion(
        name="digits-int8",
        version=2,
        framework="onnx",
        filename="digits.onnx",
        digest=f"sha256:{'1' * 64}",
        size=1000,
        inputs=(),
        outputs=(),
        tags={"b": "2", "a": "1"},
        properties={"data": "uci"},
        parent=ModelRef("digits", 1),
        created=datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
        files=(
            ModelFile("score.py", "score", f"sha256:{'3' * 64}", 30),
            ModelFile("w/w.bin", "weights", f"sha256:{'2' * 64}", 2000),
        ),
    )
    parent = replace(
        version, name="digits", version=1, digest=f"sha256:{'9' * 64}", parent=None, files=()
    )
    blobs = Blobs(tmp_path)

    manifest = blobs.read(mp.put_manifest(blobs, version, parent))

    assert json.loads(manifest) == GOLDEN
    assert manifest == canonical_json(GOLDEN)
    config = blobs.read(Descriptor.from_json(GOLDEN["config"]))
    assert config == canonical_json(GOLDEN_CONFIG)


def test_a_model_comes_back_as_it_went(
    here: Registry, there: Registry, digits: Path, place: Reference, client: RegistryClient
) -> None:
    sent = here.register(digits, "digits", tags={"a": "1"}, properties={"p": "x y"})

    pushed = mp.push_model(here, sent.ref, place, client)
    came = mp.pull_model(there, place, client)

    assert same_but_where(came) == same_but_where(sent)
    assert there.model_file(came.ref).read_bytes() == digits.read_bytes()
    assert pushed.bytes_uploaded > sent.size
    assert mp.pull_model(there, pushed.reference, client, "other").ref == ModelRef("other", 1)


def test_a_second_push_sends_nothing(
    here: Registry, digits: Path, place: Reference, client: RegistryClient
) -> None:
    ref = here.register(digits, "digits").ref
    mp.push_model(here, ref, place, client)

    assert mp.push_model(here, ref, place, client).bytes_uploaded == 0


def test_all_files_go_and_come(
    here: Registry, there: Registry, place: Reference, client: RegistryClient, tmp_path: Path
) -> None:
    (tmp_path / "score.py").write_text(SCORE)
    (tmp_path / "requirements.txt").write_text("pillow\n")
    sent = here.register(
        save_apart(tmp_path, "parts/w.bin"),
        "apart",
        score=tmp_path / "score.py",
        requirements=tmp_path / "requirements.txt",
    )

    mp.push_model(here, sent.ref, place, client)
    came = mp.pull_model(there, place, client)

    assert [file.path for file in came.files] == ["parts/w.bin", "requirements.txt", "score.py"]
    assert same_but_where(came) == same_but_where(sent)
    assert there.model_bytes(came.ref) == here.model_bytes(sent.ref)


def test_another_framework_keeps_its_name_and_file(
    here: Registry, there: Registry, place: Reference, client: RegistryClient, tmp_path: Path
) -> None:
    (tmp_path / "model.pkl").write_bytes(b"pickle")
    sent = here.register(tmp_path / "model.pkl", "trees", framework="sklearn")

    mp.push_model(here, sent.ref, place, client)

    assert same_but_where(mp.pull_model(there, place, client)) == same_but_where(sent)


def test_the_parent_is_found_again_by_its_file(
    here: Registry, there: Registry, place: Reference, client: RegistryClient, tmp_path: Path
) -> None:
    for name, content in (("float", b"float"), ("int8", b"int8")):
        (tmp_path / name).write_bytes(content)
    parent = here.register(tmp_path / "float", "float", framework="x").ref
    child = here.register(tmp_path / "int8", "int8", framework="x", parent=parent).ref
    mp.push_model(here, child, place, client)

    assert mp.pull_model(there, place, client).parent is None
    there.register(tmp_path / "float", "known-otherwise", framework="x")
    assert mp.pull_model(there, place, client).parent == ModelRef("known-otherwise", 1)
    there.register(tmp_path / "float", "float", framework="x")
    assert mp.pull_model(there, place, client).parent == ModelRef("float", 1)


@pytest.mark.needs("skopeo")
@pytest.mark.needs("docker-registry")
def test_skopeo_reads_and_copies_it(
    here: Registry, there: Registry, digits: Path, debians: str, tmp_path: Path
) -> None:
    sent = here.register(digits, "digits", tags={"a": "1"})
    place = Reference.parse(f"{debians}/models/digits:1")
    copied = Reference.parse(f"{debians}/elsewhere/digits:2")
    with RegistryClient(place) as client:
        digest = mp.push_model(here, sent.ref, place, client).reference.digest
        layout = f"oci:{tmp_path / 'layout'}:digits"
        skopeo("copy", "--src-tls-verify=false", f"docker://{place}", layout)
        skopeo("copy", "--dest-tls-verify=false", layout, f"docker://{copied}")

        manifest = json.loads(
            skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{copied}")
        )
        config = skopeo("inspect", "--raw", "--config", "--tls-verify=false", f"docker://{place}")
        came = mp.pull_model(there, copied, client)
        assert client.manifest_digest(copied.name, "2") == digest

    assert manifest["artifactType"] == mp.ARTIFACT
    assert manifest["layers"][0]["digest"] == sent.digest
    assert json.loads(config)["config"] == {"format": "onnx"}
    assert same_but_where(came) == same_but_where(sent)


Change = Callable[[dict[str, Any], dict[str, Any]], object]


class Workshop:
    """Puts artefacts into the simulator's registry that no honest tool would make.

    Args:
        registry: has a model to begin with.
        place: where they go.
        client: of the simulator's registry.
        folder: of that registry.
    """

    def __init__(
        self, registry: Registry, place: Reference, client: RegistryClient, folder: Path
    ) -> None:
        self.registry, self.place, self.client, self.folder = registry, place, client, folder

    def put(self, change: Change, scratch: Path) -> None:
        """Push the model `digits`, with its manifest and configuration changed."""
        mp.push_model(self.registry, ModelRef("digits"), self.place, self.client)
        _, data = self.client.get_manifest(self.place.name, self.place.target)
        manifest = parse_json(data, "")
        blobs = Blobs(scratch)
        described = Descriptor.from_json(manifest["config"])
        self.client.get_blob(self.place.name, described, blobs)
        config = parse_json(blobs.read(described), "")
        change(manifest, config)
        written = blobs.put(canonical_json(config), manifest["config"]["mediaType"])
        self.client.put_blob(self.place.name, written, blobs)
        manifest["config"] = written.to_json()
        self.client.put_manifest(
            self.place.name, self.place.tag, MANIFEST, canonical_json(manifest)
        )


@pytest.fixture
def workshop(here: Registry, digits: Path, simulated: str, tmp_path: Path) -> Iterator[Workshop]:
    here.register(digits, "digits")
    place = Reference.parse(f"{simulated}/models/digits:1")
    with RegistryClient(place, backoff=0) as client:
        yield Workshop(here, place, client, tmp_path / "oci-registry")


def path_is(path: str) -> Change:
    return lambda manifest, _config: manifest["layers"][0]["annotations"].update(
        {mp.FILEPATH: path}
    )


def layer_is(**fields: Any) -> Change:
    return lambda manifest, _config: manifest["layers"][0].update(fields)


def annotation_is(key: str, value: str) -> Change:
    return lambda manifest, _config: manifest["annotations"].update({key: value})


HOSTILE: dict[str, tuple[Change, type[EdgekitError], str]] = {
    "path above": (path_is("../../model.onnx"), Corrupt, "no path of its own"),
    "absolute path": (path_is("/etc/cron.d/model"), Corrupt, "no path of its own"),
    "no path": (lambda m, _: m["layers"][0].pop("annotations"), Corrupt, "no path of its own"),
    "one path twice": (lambda m, _: m["layers"].append(m["layers"][0]), Corrupt, "two files at"),
    "a file for a folder": (
        lambda m, _: m["layers"].append(
            {**m["layers"][0], "annotations": {mp.FILEPATH: "digits.onnx/w"}}
        ),
        Corrupt,
        "two files at",
    ),
    "too small": (layer_is(size=10), Corrupt, "sends more than the 10 bytes"),
    "too large": (layer_is(size=10**6), Corrupt, "gives another size"),
    "larger than any disk": (layer_is(size=10**18), RegistryError, "needs twice that"),
    "packed": (layer_is(mediaType="application/vnd.cncf.model.weight.v1.tar"), Corrupt, "raw"),
    "no files": (lambda m, _: m.update(layers=[]), Corrupt, "without files"),
    "an image": (lambda m, _: m.pop("artifactType"), Corrupt, "is no model but"),
    "no descriptor": (lambda _, c: c.pop("descriptor"), Corrupt, "describes no model"),
    "tags of another kind": (annotation_is("edgekit.tags", '{"a": 1}'), Corrupt, "does not read"),
    "tags that do not end": (annotation_is("edgekit.tags", "[" * 9999), Corrupt, "is no JSON"),
    "a tag with a line break": (
        annotation_is("edgekit.tags", '{"a": "b\\nc"}'),
        RegistryError,
        "control characters",
    ),
    "a bad name": (annotation_is("edgekit.model", "../x:1"), RegistryError, "is no"),
    "an unknown framework": (
        annotation_is("edgekit.model.framework", "a b"),
        RegistryError,
        "no name for a framework",
    ),
}


@pytest.mark.parametrize("trick", HOSTILE)
def test_what_is_not_as_it_should_be_is_refused_and_nothing_stays(
    workshop: Workshop, there: Registry, tmp_path: Path, trick: str
) -> None:
    change, expected, message = HOSTILE[trick]
    workshop.put(change, tmp_path / "scratch")

    with pytest.raises(expected, match=message) as caught:
        mp.pull_model(there, workshop.place, workshop.client)

    assert len(str(caught.value)) < 500
    nothing_is_left(there, tmp_path)


def nothing_is_left(there: Registry, tmp_path: Path) -> None:
    assert there.models() == []
    assert [path for path in (tmp_path / "there" / "blobs").rglob("*") if path.is_file()] == []
    assert list((tmp_path / "there" / "blobs" / "incoming").glob("*")) == []


def test_bytes_that_are_not_what_the_digest_says_are_refused(
    workshop: Workshop, there: Registry, tmp_path: Path
) -> None:
    mp.push_model(workshop.registry, ModelRef("digits"), workshop.place, workshop.client)
    version = workshop.registry.get(ModelRef("digits"))
    stored = workshop.folder.rglob(version.digest.removeprefix("sha256:"))
    (blob,) = (path for path in stored if path.stat().st_size == version.size)
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(data)

    with pytest.raises(Corrupt, match="expected sha256"):
        mp.pull_model(there, workshop.place, workshop.client)
    nothing_is_left(there, tmp_path)


def test_what_is_no_valid_onnx_is_refused(
    workshop: Workshop, there: Registry, tmp_path: Path
) -> None:
    blobs = Blobs(tmp_path / "scratch")
    junk = blobs.put(b"junk", mp.WEIGHT)
    workshop.client.put_blob(workshop.place.name, junk, blobs)
    workshop.put(layer_is(digest=junk.digest, size=junk.size), tmp_path / "scratch")

    with pytest.raises(ModelError, match="is no ONNX file"):
        mp.pull_model(there, workshop.place, workshop.client)
    nothing_is_left(there, tmp_path)


def test_an_artefact_of_another_tool_is_taken(
    workshop: Workshop, there: Registry, tmp_path: Path, digits: Path
) -> None:
    def foreign(manifest: dict[str, Any], config: dict[str, Any]) -> None:
        blobs = Blobs(tmp_path / "scratch")
        readme = blobs.put(b"hello", "application/vnd.cncf.model.doc.v1.raw")
        workshop.client.put_blob(workshop.place.name, readme, blobs)
        del manifest["annotations"]
        manifest["layers"][0]["annotations"] = {mp.FILEPATH: "net/model.onnx"}
        manifest["layers"].append({**readme.to_json(), "annotations": {mp.FILEPATH: "README.md"}})
        config["descriptor"]["name"] = "Digits"

    workshop.put(foreign, tmp_path / "scratch")

    came = mp.pull_model(there, workshop.place, workshop.client)

    assert (came.ref, came.framework, came.filename) == (
        ModelRef("digits", 1),
        "onnx",
        "model.onnx",
    )
    assert there.model_file(came.ref).read_bytes() == digits.read_bytes()


def test_a_name_that_does_not_fit_here_can_be_given(
    workshop: Workshop, there: Registry, tmp_path: Path
) -> None:
    def named(manifest: dict[str, Any], config: dict[str, Any]) -> None:
        del manifest["annotations"]
        config["descriptor"]["name"] = "Lab/Digits"

    workshop.put(named, tmp_path / "scratch")

    with pytest.raises(RegistryError, match="no name that fits here") as caught:
        mp.pull_model(there, workshop.place, workshop.client)
    assert "--name" in caught.value.hint
    assert mp.pull_model(there, workshop.place, workshop.client, "digits").version == 1


def test_a_model_that_is_not_there_is_named(there: Registry, simulated: str) -> None:
    place = Reference.parse(f"{simulated}/models/none:1")
    with RegistryClient(place) as client, pytest.raises(OciError, match="none:1 is not there"):
        mp.pull_model(there, place, client)
