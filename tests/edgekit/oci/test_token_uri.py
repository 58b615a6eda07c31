"""How a key in a token is named (RFC 7512)."""

import pytest

from edgekit.errors import Unauthorized
from edgekit.oci.token import TokenUri


def test_a_uri_is_read_with_its_escapes():
    text = "pkcs11:token=my%20token;object=a%3Bb;id=%01%ff?module-path=/l.so&pin-source=file:/pin"
    assert TokenUri.parse(text) == TokenUri("my token", "a;b", b"\x01\xff", "/l.so", "/pin")


def test_the_library_may_stand_in_the_environment(monkeypatch):
    monkeypatch.setenv("EDGEKIT_PKCS11_MODULE", "/usr/lib/p11.so")
    assert TokenUri.parse("pkcs11:token=t;object=o").module == "/usr/lib/p11.so"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pkcs11:", "has no token"),
        ("pkcs11:object=o?module-path=/l.so", "has no token"),
        ("pkcs11:token=t?module-path=/l.so", "neither object nor id"),
        ("pkcs11:token=t;object=o", "has no module-path"),
        ("pkcs11:token=t;object=o?module-path=/l.so&pin-value=1234", "seen by everybody"),
        ("file:token=t;object=o", "has no token"),
    ],
)
def test_what_is_missing_is_said(text, reason, monkeypatch):
    monkeypatch.delenv("EDGEKIT_PKCS11_MODULE", raising=False)
    with pytest.raises(Unauthorized, match=reason) as error:
        TokenUri.parse(text)
    assert "1234" not in str(error.value)
