"""Entity tags: a change made on an outdated copy is refused."""

from edgekit_sim.dps.errors import STALE, ProvisioningFault


def check_etag(if_match: str | None, present: str) -> None:
    """Compare an If-Match header with the ETag of what is there; none and `*` match everything.

    Raises:
        ProvisioningFault: 412, when they differ.
    """
    if if_match is None:
        return
    expected = if_match.strip().removeprefix("W/").strip('"')
    if expected not in ("*", present):
        raise ProvisioningFault(STALE, "Precondition failed.")
