"""Keys in a PKCS#11 token, SoftHSM's: it signs, keeps its key, and says what is wrong."""

import pytest

from edgekit.errors import Unauthorized
from edgekit.oci.signers import open_signer
from edgekit.oci.signing import SIGNED, Policy, Statement, sign, verify
from edgekit.oci.token import TokenUri, make_token_key

DIGEST = "sha256:" + "ab" * 32
PIN = "4321"


@pytest.fixture
def key(token, request):
    """The URI of a key that was made for this test, and its public key."""
    uri = token.format(request.node.name)
    return uri, make_token_key(TokenUri.parse(uri))


pytestmark = pytest.mark.needs("softhsm2")


def test_what_a_token_signs_is_verified_with_its_public_key(key):
    uri, public = key
    with open_signer(uri) as signer:
        assert signer.public_key == public
        bundle = sign(Statement(DIGEST, SIGNED, {}), signer)
    (found,) = verify(DIGEST, [bundle], Policy((public,)))
    assert found.statement.digest == DIGEST


def test_the_key_never_leaves_the_token(key):
    import pkcs11
    from pkcs11.exceptions import AttributeSensitive

    parsed = TokenUri.parse(key[0])
    with pkcs11.lib(parsed.module).get_token(token_label="release").open(user_pin=PIN) as session:
        private = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, label=parsed.object)
        assert private[pkcs11.Attribute.EXTRACTABLE] is False
        with pytest.raises(AttributeSensitive):
            private[pkcs11.Attribute.VALUE]


def test_a_key_is_never_replaced(key):
    with pytest.raises(Unauthorized, match="already"):
        make_token_key(TokenUri.parse(key[0]))


def test_the_pin_may_lie_in_a_file(key, monkeypatch, tmp_path):
    monkeypatch.delenv("EDGEKIT_PKCS11_PIN")
    (tmp_path / "pin").write_text(f"{PIN}\n")
    with open_signer(f"{key[0]}&pin-source=file:{tmp_path / 'pin'}") as signer:
        assert signer.public_key == key[1]
    with (
        pytest.raises(Unauthorized, match="does not read"),
        open_signer(f"{key[0]}&pin-source=file:{tmp_path / 'none'}"),
    ):
        pass


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("token=release", "token=other"), "there is no token other"),
        (("object=", "object=no-"), "has no key no-"),
        (("libsofthsm2.so", "nothing.so"), "refuses"),
    ],
)
def test_what_is_not_there_is_named(key, change, reason):
    with pytest.raises(Unauthorized, match=reason), open_signer(key[0].replace(*change)):
        pass


def test_a_wrong_pin_is_told_and_not_shown(key, monkeypatch):
    monkeypatch.setenv("EDGEKIT_PKCS11_PIN", "9876543")
    with pytest.raises(Unauthorized, match="does not take the PIN") as error, open_signer(key[0]):
        pass
    assert "9876543" not in str(error.value)


def test_without_a_pin_it_says_how_to_give_one(key, monkeypatch):
    monkeypatch.delenv("EDGEKIT_PKCS11_PIN")
    with pytest.raises(Unauthorized, match="wants a PIN") as error, open_signer(key[0]):
        pass
    assert "EDGEKIT_PKCS11_PIN" in error.value.hint
