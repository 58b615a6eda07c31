"""Signatures and signed statements about images, in the layout that cosign reads.

A statement (in-toto v1) names the image by digest and says something of it: that somebody signed
it, what it is made of, how it was built. It is wrapped in a DSSE envelope, signed with ECDSA over
P-256, and kept in a Sigstore bundle v0.3 that carries the public key's fingerprint, so that
whoever has the key verifies it without any service. Formats: cosign's specs/BUNDLE_SPEC.md, DSSE's
protocol.md, the in-toto attestation framework v1.
"""

import base64
import binascii
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from edgekit.errors import Corrupt, OciError, Unauthorized
from edgekit.oci.descriptor import canonical_json, parse_json
from edgekit.oci.keys import Signer, fingerprint, load_public

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
SIGNED = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
CYCLONEDX = "https://cyclonedx.org/bom"


@dataclass(frozen=True)
class Statement:
    """What somebody says of an image.

    Args:
        digest: of the image's index or manifest.
        predicate_type: what kind of saying it is: `SIGNED`, `PROVENANCE`, `CYCLONEDX`.
        predicate: the saying.
        name: of the image; of no weight, the digest decides.
    """

    digest: str
    predicate_type: str
    predicate: Mapping[str, Any]
    name: str = ""

    def to_bytes(self) -> bytes:
        """The statement as JSON, as it is signed."""
        algorithm, _, value = self.digest.partition(":")
        subject: dict[str, Any] = {"digest": {algorithm: value}}
        if self.name:
            subject["name"] = self.name
        return canonical_json(
            {
                "_type": STATEMENT,
                "subject": [subject],
                "predicateType": self.predicate_type,
                "predicate": dict(self.predicate),
            }
        )


@dataclass(frozen=True)
class Verified:
    """A statement whose signature was checked, and the fingerprint of the key that made it."""

    statement: Statement
    key: str


@dataclass(frozen=True)
class Policy:
    """What must be true of an image before it may run.

    Args:
        keys: public keys (PEM); one of them must have signed.
        builders: where not empty, signed provenance must name one of these as the builder.
    """

    keys: tuple[bytes, ...]
    builders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.keys:
            raise OciError("a policy without a key would let nothing through", "name a public key")
        for key in self.keys:
            load_public(key)

    @classmethod
    def read(cls, path: Path) -> "Policy":
        """The policy in a TOML file; paths of keys start at its folder.

            keys = ["release.key.pub"]          # any of them may have signed
            builders = ["urn:example:ci"]       # optional

        Raises:
            OciError: the file or a key does not read, or says something else.
        """
        try:
            value = tomllib.loads(path.read_text())
            keys, builders = value.pop("keys", []), value.pop("builders", [])
            listed = [keys, builders]
            if value or not all(isinstance(each, list) for each in listed):
                raise ValueError("it has keys and builders, both lists, and nothing else")
            if not all(isinstance(text, str) for each in listed for text in each):
                raise ValueError("keys and builders are lists of texts")
            return cls(tuple((path.parent / key).read_bytes() for key in keys), tuple(builders))
        except OSError as error:
            raise OciError(f"cannot read {error.filename}: {error.strerror}") from error
        except (ValueError, UnicodeDecodeError) as error:
            raise OciError(f"the policy {path} does not read: {error}", "correct it") from error


def _authenticated(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what is signed."""
    kind = PAYLOAD.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(statement: Statement, key: Signer) -> bytes:
    """A Sigstore bundle of the statement; a key in a file gives equal bytes for equal inputs."""
    payload = statement.to_bytes()
    signature = key.sign(_authenticated(payload))
    return canonical_json(
        {
            "mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": fingerprint(key.public_key)}},
            "dsseEnvelope": {
                "payload": base64.b64encode(payload).decode(),
                "payloadType": PAYLOAD,
                "signatures": [{"sig": base64.b64encode(signature).decode()}],
            },
        }
    )


def open_bundle(bundle: bytes, keys: Iterable[bytes]) -> Verified | None:
    """The statement of a bundle, if one of `keys` signed it; None if none did.

    The key is found by trying, not by the bundle's hint, which anybody may write.

    Raises:
        Corrupt: the bundle does not read.
    """
    try:
        envelope = parse_json(bundle, "a signature bundle")["dsseEnvelope"]
        if envelope["payloadType"] != PAYLOAD:
            raise Corrupt(f"a signature bundle holds {envelope['payloadType']!r}")
        payload = base64.b64decode(envelope["payload"], validate=True)
        signatures = [
            base64.b64decode(each["sig"], validate=True) for each in envelope["signatures"]
        ]
    except (KeyError, TypeError, binascii.Error, ValueError) as error:
        raise Corrupt("a signature bundle does not read") from error
    for key in keys:
        public = load_public(key)
        for signature in signatures:
            try:
                public.verify(signature, _authenticated(payload), ec.ECDSA(hashes.SHA256()))
            except InvalidSignature:
                continue
            return Verified(_statement(payload), fingerprint(key))
    return None


def _statement(payload: bytes) -> Statement:
    value = parse_json(payload, "a signed statement")
    try:
        (subject,) = value["subject"]
        if value["_type"] != STATEMENT:
            raise Corrupt(f"a signed statement is a {value['_type']!r}")
        return Statement(
            "sha256:" + subject["digest"]["sha256"],
            str(value["predicateType"]),
            value.get("predicate") or {},
            str(subject.get("name", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise Corrupt("a signed statement does not read") from error


def verify(digest: str, bundles: Iterable[bytes], policy: Policy) -> tuple[Verified, ...]:
    """The statements about an image that the policy's keys signed.

    Args:
        digest: of the image.
        bundles: all that were found beside it; those of others are passed over.
        policy: what must hold.

    Raises:
        Unauthorized: nobody of the policy signed it, or no signed provenance names its builder.
    """
    found = []
    for bundle in bundles:
        try:
            verified = open_bundle(bundle, policy.keys)
        except Corrupt:
            # somebody else's, or damaged: it proves nothing either way
            continue
        if verified and verified.statement.digest == digest:
            found.append(verified)
    if not any(each.statement.predicate_type == SIGNED for each in found):
        raise Unauthorized(
            f"{digest} is not signed by any key of the policy",
            "sign it: edgekit image sign REGISTRY/NAME:TAG --key KEY",
        )
    if policy.builders and not any(_builder(each.statement) in policy.builders for each in found):
        raise Unauthorized(
            f"no signed provenance says that {digest} was built by {' or '.join(policy.builders)}"
        )
    return tuple(found)


def _builder(statement: Statement) -> str:
    """The builder's id in SLSA provenance v1; empty for other statements."""
    if statement.predicate_type != PROVENANCE:
        return ""
    details = statement.predicate.get("runDetails")
    builder = details.get("builder") if isinstance(details, Mapping) else None
    return str(builder.get("id", "")) if isinstance(builder, Mapping) else ""
