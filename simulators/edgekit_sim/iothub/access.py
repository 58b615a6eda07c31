"""Who may do what: shared access policies, and the keys and certificates of identities."""

import hmac
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.authorities import check_authority, issued_by
from edgekit_sim.iothub.errors import HubFault
from edgekit_sim.iothub.faults import REFUSE_TOKENS, Faults
from edgekit_sim.iothub.identities import Identity
from edgekit_sim.iothub.registry import Registry
from edgekit_sim.iothub.store import Store

REGISTRY_READ = "RegistryRead"
REGISTRY_WRITE = "RegistryWrite"
SERVICE_CONNECT = "ServiceConnect"
DEVICE_CONNECT = "DeviceConnect"

# the policies of a new hub, as the real service makes them
POLICIES: dict[str, frozenset[str]] = {
    "iothubowner": frozenset({REGISTRY_READ, REGISTRY_WRITE, SERVICE_CONNECT, DEVICE_CONNECT}),
    "service": frozenset({SERVICE_CONNECT}),
    "device": frozenset({DEVICE_CONNECT}),
    "registryRead": frozenset({REGISTRY_READ}),
    "registryReadWrite": frozenset({REGISTRY_READ, REGISTRY_WRITE}),
}


@dataclass(frozen=True)
class Policy:
    """A shared access policy.

    Attributes:
        name: what `skn` in a token says.
        rights: what its tokens allow.
        keys: primary and secondary key, base64.
    """

    name: str
    rights: frozenset[str]
    keys: tuple[str, str]


def load_policies(
    store: Store, rights_of: Mapping[str, frozenset[str]] = POLICIES, place: str = "policy/"
) -> dict[str, Policy]:
    """A service's policies with the keys the store keeps; made and stored at first start.

    Args:
        store: keeps the keys among its settings.
        rights_of: the policies' names and rights; the hub's by default.
        place: what the settings' names begin with.
    """
    kept = dict(store.read("SELECT name, value FROM settings"))
    policies = {}
    for name, rights in rights_of.items():
        text = kept.get(f"{place}{name}")
        if text is None:
            text = f"{tokens.new_key()} {tokens.new_key()}"
            store.write("INSERT INTO settings VALUES (?,?)", (f"{place}{name}", text))
        primary, secondary = text.split()
        policies[name] = Policy(name, rights, (primary, secondary))
    return policies


class Gatekeeper:
    """Checks tokens and certificates.

    Args:
        store: where the authorities are kept.
        registry: the identities.
        faults: what may refuse a good token, or set the clock wrong.
        policies: by name.
        hostnames: what the hub may be called in a token, without port, lower case.

    Attributes:
        authorities: certificates in PEM of those who may issue certificates for devices, by name.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        faults: Faults,
        policies: dict[str, Policy],
        hostnames: Iterable[str],
    ) -> None:
        self._registry = registry
        self.policies = policies
        self._store = store
        self._faults = faults
        kept = store.read("SELECT name, value FROM settings WHERE name LIKE 'authority/%'")
        self.authorities: dict[str, bytes] = {
            name.partition("/")[2]: text.encode() for name, text in kept
        }
        self._hostnames = frozenset(name.lower() for name in hostnames)

    def service(self, authorization: str | None, right: str, now: float | None = None) -> None:
        """Let a service request pass.

        Args:
            authorization: the header of that name.
            right: what the request needs.
            now: seconds since 1970; by default what the hub's clock says, faults and all.

        Raises:
            HubFault: 401, saying which part of the token is wrong; 403 without the right.
        """
        if not authorization:
            raise _refused("the Authorization header is missing")
        token = tokens.parse(authorization)
        if token is None:
            raise _refused("the Authorization header is no shared access signature")
        policy = self.policies.get(token.policy or "")
        if policy is None:
            raise _refused(f"there is no shared access policy {token.policy!r}")
        self._check(token, policy.keys, "", now)
        if right not in policy.rights:
            raise HubFault(
                403, "IotHubForbidden", f"policy {policy.name} does not have the right {right}"
            )

    def by_key(self, name: str, key: str) -> Policy | None:
        """The policy of a name, if `key` is one of its keys; None otherwise."""
        policy = self.policies.get(name)
        if policy is None:
            return None
        genuine = [hmac.compare_digest(one.encode(), key.encode()) for one in policy.keys]
        return policy if any(genuine) else None

    def device(
        self, device_id: str, module_id: str, password: str | None, chain: tuple[bytes, ...]
    ) -> tuple[Identity, float]:
        """Let a device or module pass.

        Args:
            device_id: who it says it is.
            module_id: "" for a device.
            password: its token, None when it sent none.
            chain: the certificates of the TLS connection in DER, the client's own first.

        Returns:
            The identity, and until when it may stay: seconds since 1970, or infinity.

        Raises:
            HubFault: 401 or 404, saying why not.
        """
        identity = self._registry.find(device_id, module_id)
        if identity is None:
            raise HubFault(404, "DeviceNotFound", "no such device or module is registered")
        device = self._registry.get(device_id)
        if self._faults.strikes(REFUSE_TOKENS, device_id):
            raise _refused("tokens are refused on command")
        if device.status != "enabled":
            raise HubFault(403, "IotHubForbidden", "the device is disabled")
        if not password:
            if chain and self._certified(identity, chain):
                return identity, float("inf")
            raise _refused("neither a token nor a certificate that fits")
        token = tokens.parse(password)
        if token is None:
            raise _refused("the password is no shared access signature")
        if token.policy:
            policy = self.policies.get(token.policy)
            if policy is None or DEVICE_CONNECT not in policy.rights:
                raise _refused(f"policy {token.policy!r} does not allow devices to connect")
            self._check(token, policy.keys, identity.client_id)
        else:
            self._check(token, identity.keys, identity.client_id)
        return identity, float(token.expiry)

    def device_or_service(
        self, authorization: str | None, right: str, device_id: str, module_id: str
    ) -> None:
        """Let a service request pass, or one of the device itself about its own modules.

        The edge runtime manages the identities of its device's modules with the device's own key,
        or with that of `$edgeAgent`.

        Raises:
            HubFault: 401 or 403.
        """
        token = tokens.parse(authorization or "")
        if token is None or token.policy:
            self.service(authorization, right)
            return
        resource = token.resource.split("/devices/", 1)[-1]
        for holder in (device_id, f"{device_id}/modules/$edgeAgent"):
            if resource == holder:
                self.device(*_split(holder), authorization, ())
                return
        if module_id and resource == f"{device_id}/modules/{module_id}":
            self.device(device_id, module_id, authorization, ())
            return
        raise _refused("the token is for another identity")

    def device_of(self, authorization: str | None, device_id: str) -> bool:
        """Say whether a token is good and one of a device or of one of its modules.

        Raises:
            HubFault: 401, when it claims to be that and is not good.
        """
        token = tokens.parse(authorization or "")
        if token is None or token.policy:
            return False
        holder = token.resource.split("/devices/", 1)[-1]
        if holder.partition("/")[0] != device_id:
            raise _refused("the token is for another device")
        self.device(*_split(holder), authorization, ())
        return True

    def _check(
        self, token: tokens.Token, keys: Iterable[str], client_id: str, now: float | None = None
    ) -> None:
        """Check signature, expiry and what the token is for."""
        if not token.signed_by(keys):
            raise _refused("the signature was not made with a key of this identity")
        if token.expiry <= (self._faults.clock() if now is None else now):
            raise _refused("the token has expired")
        host, _, rest = re.sub("^[a-z]+://", "", token.resource).partition("/")
        if host.rpartition(":")[0].lower() not in self._hostnames:
            host = host.lower()
            if host not in self._hostnames:
                raise _refused(f"the token is for the host {host[:60]!r}")
        if rest and not _covers(rest, client_id):
            raise _refused("the token is for another resource")

    def _certified(self, identity: Identity, chain: tuple[bytes, ...]) -> bool:
        if identity.authentication == "selfSigned":
            return identity.certificate_fits(chain[0])
        if identity.authentication == "certificateAuthority":
            authorities = list(self.authorities.values())
            return issued_by(chain, authorities, identity.device_id)
        return False

    def trust(self, name: str, text: bytes) -> None:
        """Let devices in with certificates that an authority issued for their device id.

        Args:
            name: what to call the authority.
            text: its certificate in PEM.

        Raises:
            HubFault: 400, when that is no certificate of an authority.
        """
        try:
            self.authorities[name] = check_authority(text)
        except ValueError as error:
            raise HubFault(400, "CertificateInvalid", f"{name!r}: {error}") from error
        self._store.write(
            "INSERT OR REPLACE INTO settings VALUES (?,?)", (f"authority/{name}", text.decode())
        )


def _covers(resource: str, client_id: str) -> bool:
    """Say whether `devices/d[/modules/m]` covers the client `d[/m]`; a service has no client id."""
    if not client_id:
        return True
    device_id, _, module_id = client_id.partition("/")
    wanted = f"devices/{device_id}" + (f"/modules/{module_id}" if module_id else "")
    return resource in ("devices", wanted)


def _split(holder: str) -> tuple[str, str]:
    device_id, _, module_id = holder.partition("/modules/")
    return device_id, module_id


def _refused(reason: str) -> HubFault:
    return HubFault(401, "IotHubUnauthorizedAccess", f"Unauthorized: {reason}")
