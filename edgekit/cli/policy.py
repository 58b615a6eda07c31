"""Who must have signed: the options of the commands that ask, and what they say of the answer."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgekit.cli.image_named import FILE
from edgekit.cli.output import print_json, say

if TYPE_CHECKING:
    from edgekit.oci.reference import Reference
    from edgekit.oci.signing import Policy, Verified

F = TypeVar("F", bound=Callable[..., Any])


def policy_options(*, required: bool) -> Callable[[F], F]:
    """Give a command a `policy`: what its options say; None where they may say nothing, and do."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def asked(
            *arguments: Any,
            keys: tuple[Path, ...],
            builders: tuple[str, ...],
            policy_file: Path | None,
            **others: Any,
        ) -> Any:
            policy = None
            if required or keys or builders or policy_file is not None:
                policy = _policy(keys, builders, policy_file)
            return command(*arguments, policy=policy, **others)

        made: Any = asked
        for option in (
            click.option("--policy", "policy_file", type=FILE, help="A TOML file that says who."),
            click.option("--builder", "builders", multiple=True, help="Provenance must name it."),
            click.option("--key", "keys", type=FILE, multiple=True, help="A public key."),
        ):
            made = option(made)
        return made  # type: ignore[no-any-return]

    return decorate


def _policy(
    keys: tuple[Path, ...], builders: tuple[str, ...], policy_file: Path | None
) -> "Policy":
    from edgekit.errors import ImageError
    from edgekit.oci.signing import Policy

    if policy_file is not None:
        if keys or builders:
            raise click.UsageError("--policy names keys and builders; give it alone")
        return Policy.read(policy_file)
    if not keys:
        raise click.UsageError("who must have signed? Give --key or --policy")
    try:
        return Policy(tuple(path.read_bytes() for path in keys), builders)
    except OSError as error:
        raise ImageError(f"cannot read {error.filename}: {error.strerror}") from error


def verify_in_registry(
    reference: "Reference", policy: "Policy", plain_http: bool
) -> "tuple[str, tuple[Verified, ...]]":
    """The digest that a registry has under a name, and what is said of it that meets the policy.

    Raises:
        Unauthorized: nothing does.
        OciError: there is no such name.
    """
    import tempfile

    from edgekit.oci.blobs import Blobs
    from edgekit.oci.client import RegistryClient
    from edgekit.packager.papers import verify_remote

    with (
        tempfile.TemporaryDirectory(prefix="edgekit-verify-") as folder,
        RegistryClient(reference, plain_http=plain_http) as client,
    ):
        return verify_remote(reference, client, Blobs(Path(folder)), policy)


def tell_verified(digest: str, found: "tuple[Verified, ...]", as_json: bool) -> None:
    """Print what was verified, and by whose key."""
    if as_json:
        said = [{"statement": each.statement.predicate_type, "key": each.key} for each in found]
        print_json({"digest": digest, "verified": said})
        return
    click.echo(digest)
    for each in found:
        say(f"  {each.statement.predicate_type} signed by {each.key}")
