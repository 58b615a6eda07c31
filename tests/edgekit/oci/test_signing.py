"""Signatures: cosign's layout to the byte, and a policy that lets nothing else through."""

import base64
import json
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from edgekit.errors import Corrupt, OciError, Unauthorized
from edgekit.oci.artifacts import (
    fallback_tag,
    fetch_artifact,
    list_artifacts,
    push_artifact,
    put_artifact,
)
from edgekit.oci.blobs import Blobs
from edgekit.oci.client import RegistryClient
from edgekit.oci.descriptor import INDEX, Descriptor
from edgekit.oci.keys import PemKey, fingerprint, new_key, read_private_key
from edgekit.oci.reference import Reference
from edgekit.oci.signing import (
    BUNDLE,
    PROVENANCE,
    SIGNED,
    Policy,
    Statement,
    open_bundle,
    sign,
    verify,
)
from edgekit.oci.transfer import push

DIGEST = "sha256:" + "ab" * 32

# A key of no worth, derived from the number 1234567, so that the signature below is reproducible.
GOLDEN = PemKey(ec.derive_private_key(1234567, ec.SECP256R1()))


@pytest.fixture
def keys(tmp_path):
    private, public = new_key()
    path = tmp_path / "release.key"
    path.write_bytes(private)
    return PemKey(read_private_key(path)), public


def test_the_layout_is_that_of_cosigns_specification(blobs):
    """specs/BUNDLE_SPEC.md: the bundle as one layer, the empty config, the image as subject."""
    bundle = sign(Statement(DIGEST, SIGNED, {}), GOLDEN)
    artifact = put_artifact(
        blobs,
        Descriptor(INDEX, DIGEST, 1234),
        BUNDLE,
        bundle,
        "sha256-x.sigstore.json",
        {"dev.sigstore.bundle.content": "dsse-envelope"},
    )
    layer = Descriptor.of(BUNDLE, bundle)
    empty = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    expected = (
        '{"annotations":{"dev.sigstore.bundle.content":"dsse-envelope"},'
        f'"artifactType":"{BUNDLE}",'
        f'"config":{{"digest":"{empty}","mediaType":"application/vnd.oci.empty.v1+json","size":2}},'
        '"layers":[{"annotations":{"org.opencontainers.image.title":"sha256-x.sigstore.json"},'
        f'"digest":"{layer.digest}","mediaType":"{BUNDLE}","size":{layer.size}}}],'
        '"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2,'
        f'"subject":{{"digest":"{DIGEST}","mediaType":"{INDEX}","size":1234}}}}'
    )
    assert blobs.read(artifact).decode() == expected


def test_the_bundle_is_that_of_sigstore_0_3():
    value = json.loads(sign(Statement(DIGEST, SIGNED, {}, "r.io/digits"), GOLDEN))
    assert value["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert value["verificationMaterial"] == {"publicKey": {"hint": fingerprint(GOLDEN.public_key)}}
    envelope = value["dsseEnvelope"]
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert base64.b64decode(envelope["payload"]).decode() == (
        '{"_type":"https://in-toto.io/Statement/v1","predicate":{},'
        '"predicateType":"https://sigstore.dev/cosign/sign/v1",'
        f'"subject":[{{"digest":{{"sha256":"{"ab" * 32}"}},"name":"r.io/digits"}}]}}'
    )


def test_equal_inputs_give_equal_signatures():
    statement = Statement(DIGEST, SIGNED, {})
    assert sign(statement, GOLDEN) == sign(statement, GOLDEN)


def test_openssl_agrees(tmp_path):
    """The signature is plain ECDSA over DSSE's encoding, which another program checks."""
    envelope = json.loads(sign(Statement(DIGEST, SIGNED, {}), GOLDEN))["dsseEnvelope"]
    payload = base64.b64decode(envelope["payload"])
    kind = envelope["payloadType"].encode()
    (tmp_path / "signed").write_bytes(
        b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)
    )
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    (tmp_path / "key.pub").write_bytes(GOLDEN.public_key)
    answer = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", "key.pub", "-signature", "signature", "signed"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (answer.returncode, answer.stdout.strip()) == (0, "Verified OK")


def test_who_has_the_key_verifies_it(keys):
    private, public = keys
    statement = Statement(DIGEST, SIGNED, {})
    (found,) = verify(DIGEST, [sign(statement, private)], Policy((public,)))
    assert (found.statement, found.key) == (statement, fingerprint(public))


def test_another_key_does_not(keys):
    private, _public = keys
    with pytest.raises(Unauthorized, match="not signed by any key of the policy"):
        verify(DIGEST, [sign(Statement(DIGEST, SIGNED, {}), private)], Policy((new_key()[1],)))


def test_a_signature_of_another_image_does_not(keys):
    private, public = keys
    other = sign(Statement("sha256:" + "cd" * 32, SIGNED, {}), private)
    with pytest.raises(Unauthorized, match="not signed"):
        verify(DIGEST, [other], Policy((public,)))


def test_a_bill_of_material_is_no_signature(keys):
    private, public = keys
    said = sign(Statement(DIGEST, "https://cyclonedx.org/bom", {}), private)
    with pytest.raises(Unauthorized, match="not signed"):
        verify(DIGEST, [said], Policy((public,)))


def provenance(builder):
    return Statement(DIGEST, PROVENANCE, {"runDetails": {"builder": {"id": builder}}})


@pytest.mark.parametrize("builder", ["urn:example:ci", "urn:example:laptop"])
def test_the_builder_must_be_one_of_the_policy(keys, builder):
    private, public = keys
    bundles = [sign(Statement(DIGEST, SIGNED, {}), private), sign(provenance(builder), private)]
    policy = Policy((public,), ("urn:example:ci",))
    if builder == "urn:example:ci":
        assert len(verify(DIGEST, bundles, policy)) == 2
    else:
        with pytest.raises(Unauthorized, match="was built by urn:example:ci"):
            verify(DIGEST, bundles, policy)


def test_provenance_that_somebody_else_signed_names_no_builder(keys):
    private, public = keys
    bundles = [sign(Statement(DIGEST, SIGNED, {}), private), sign(provenance("urn:ci"), GOLDEN)]
    with pytest.raises(Unauthorized, match="no signed provenance"):
        verify(DIGEST, bundles, Policy((public,), ("urn:ci",)))


@given(st.data())
def test_no_changed_bundle_verifies(data):
    """Whatever single byte of payload or signature is changed, the statement is not believed."""
    bundle = json.loads(sign(Statement(DIGEST, SIGNED, {}), GOLDEN))
    envelope = bundle["dsseEnvelope"]
    where = data.draw(st.sampled_from(["payload", "signature"]))
    text = envelope["payload"] if where == "payload" else envelope["signatures"][0]["sig"]
    raw = bytearray(base64.b64decode(text))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    changed = base64.b64encode(bytes(raw)).decode()
    if where == "payload":
        envelope["payload"] = changed
    else:
        envelope["signatures"][0]["sig"] = changed
    with pytest.raises(Unauthorized):
        verify(DIGEST, [json.dumps(bundle).encode()], Policy((GOLDEN.public_key,)))


@pytest.mark.parametrize("bundle", [b"", b"[]", b"{}", b'{"dsseEnvelope": {"payloadType": 1}}'])
def test_what_is_no_bundle_is_told_and_proves_nothing(keys, bundle):
    private, public = keys
    with pytest.raises(Corrupt):
        open_bundle(bundle, [public])
    good = sign(Statement(DIGEST, SIGNED, {}), private)
    assert len(verify(DIGEST, [bundle, good], Policy((public,)))) == 1


def test_a_key_with_a_password(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEKIT_SIGNING_PASSWORD", "s3cret")
    private, public = new_key()
    path = tmp_path / "release.key"
    path.write_bytes(private)
    assert b"ENCRYPTED" in private
    assert PemKey(read_private_key(path)).public_key == public
    for password in ("", "wrong"):
        monkeypatch.setenv("EDGEKIT_SIGNING_PASSWORD", password)
        with pytest.raises(Unauthorized, match=r"release\.key"):
            read_private_key(path)


def test_a_policy_without_a_key_is_none():
    with pytest.raises(OciError, match="would let nothing through"):
        Policy(())


def test_papers_are_found_beside_their_image(blobs, image, registry, tmp_path):
    """By the referrers API where the registry has it, by the tag where it has not."""
    reference = Reference.parse(f"{registry}/edge/digits:1")
    bundles = [sign(Statement(image.digest, SIGNED, {}, name), GOLDEN) for name in ("a", "b")]
    with RegistryClient(reference, backoff=0) as client:
        push(blobs, image, reference, client)
        for bundle in (*bundles, bundles[0]):
            push_artifact(blobs, put_artifact(blobs, image, BUNDLE, bundle), reference.name, client)
        listed = list_artifacts(client, reference.name, image.digest, BUNDLE)
        fetched = Blobs(tmp_path / "fetched")
        found = {fetch_artifact(client, reference.name, each, fetched) for each in listed}
        by_tag = client.manifest_digest(reference.name, fallback_tag(image.digest))
        api = client.referrers(reference.name, image.digest)
    assert (len(listed), found) == (2, set(bundles))
    assert bool(by_tag) == (api is None)
