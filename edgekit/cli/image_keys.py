"""`edgekit image keygen, public-key`: keys that sign images, in files or in tokens."""

import os
from pathlib import Path

import click

from edgekit.cli.image_named import FILE
from edgekit.cli.output import json_option, print_json, say

KEY = "PATH|pkcs11:URI"


@click.command()
@click.argument("key", metavar=KEY)
@click.option("--public", type=FILE, help="Where the public key goes.  [default: PATH.pub]")
@json_option
def keygen(key: str, public: Path | None, as_json: bool) -> None:
    """Make a signing key at PATH, and its public key at PATH.pub; or one in a token.

    The private key in a file is encrypted with EDGEKIT_SIGNING_PASSWORD where that is set; one in a
    token (PKCS#11) never leaves it, and its PIN is read from EDGEKIT_PKCS11_PIN or the URI's
    pin-source=file:PATH. A file that exists is never replaced.

    \b
    Examples:
      edgekit image keygen release.key
      edgekit image keygen 'pkcs11:token=release;object=signing?module-path=/usr/lib/p11.so' \\
          --public release.pub
    """
    from edgekit.oci.keys import TOKEN_SCHEME, fingerprint, new_key

    if key.startswith(TOKEN_SCHEME):
        from edgekit.oci.token import TokenUri, make_token_key

        uri = TokenUri.parse(key)
        if not uri.object or public is None:
            raise click.UsageError("a key in a token needs object=NAME, and --public FILE")
        _absent(public)
        made = make_token_key(uri)
        _write(public, made, 0o644)
    else:
        path = Path(key)
        public = public or path.with_name(f"{path.name}.pub")
        _absent(public)
        private, made = new_key()
        _write(path, private, 0o600)
        _write(public, made, 0o644)
    if as_json:
        print_json({"key": key, "public": str(public), "fingerprint": fingerprint(made)})
        return
    say(f"{key}: keep it secret. {public}: give it to whoever verifies.")


@click.command("public-key")
@click.argument("key", metavar=KEY)
@json_option
def public_key(key: str, as_json: bool) -> None:
    """Print the public key (PEM) of a signing key in a file or in a token.

    \b
    Examples:
      edgekit image public-key release.key > release.key.pub
    """
    from edgekit.oci.keys import fingerprint
    from edgekit.oci.signers import open_signer

    with open_signer(key) as signer:
        found = signer.public_key
    if as_json:
        print_json({"public": found.decode(), "fingerprint": fingerprint(found)})
        return
    click.echo(found.decode(), nl=False)


def _absent(path: Path) -> None:
    """Refuse before anything is made where a file would be replaced."""
    from edgekit.errors import ImageError

    if path.exists():
        raise ImageError(f"cannot write {path}: File exists", "name another file")


def _write(path: Path, data: bytes, mode: int) -> None:
    from edgekit.errors import ImageError

    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except OSError as error:
        raise ImageError(f"cannot write {path}: {error.strerror}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
