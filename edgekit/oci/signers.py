"""The key that a user names, wherever it is: in a file, or in a token."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.oci.keys import TOKEN_SCHEME, PemKey, Signer, read_private_key


@contextmanager
def open_signer(key: str) -> Iterator[Signer]:
    """The key that a user names: the path of a PEM file, or `pkcs11:...` for one in a token.

    Raises:
        Unauthorized: it does not open.
    """
    if key.startswith(TOKEN_SCHEME):
        from edgekit.oci.token import TokenUri, open_token

        with open_token(TokenUri.parse(key)) as signer:
            yield signer
    else:
        yield PemKey(read_private_key(Path(key)))
