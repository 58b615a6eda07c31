"""Who asks: answers a registry's `WWW-Authenticate` with what the Docker config has.

Basic authentication (RFC 7617) and bearer tokens of the distribution specification's token service.
"""

import re
from collections.abc import Callable, Mapping

import httpx

from edgekit.errors import Unauthorized, Unreachable
from edgekit.oci.credentials import Credential, find_credential


class Authorizer:
    """Keeps what one registry accepts: one header for all, or a token for each scope.

    Args:
        registry: host and port.
        credential: taken from the Docker config, when it is first needed, where None.
        http: sends the requests to the token service.
        trust: told of each address before it is asked.
    """

    def __init__(
        self,
        registry: str,
        credential: Credential | None,
        http: httpx.Client,
        trust: Callable[[str], None],
    ) -> None:
        self._registry = registry
        self._credential = credential
        self._sought = credential is not None
        self._http = http
        self._trust = trust
        self._tokens: dict[str, str] = {}

    def header(self, scope: str) -> str:
        """The `Authorization` for a scope, as far as known; else empty."""
        return self._tokens.get(scope) or self._tokens.get("", "")

    def answer(self, challenge: str, scope: str, secure: bool) -> None:
        """Answer a challenge, keeping the outcome for the scope.

        Args:
            challenge: the header `WWW-Authenticate`.
            scope: what is to be done, as in `repository:NAME:pull`.
            secure: the registry speaks TLS, and so must its token service.

        Raises:
            Unauthorized: there is no credential that it accepts.
            Unreachable: the token service does not answer.
        """
        if not self._sought:
            self._credential = find_credential(self._registry)
            self._sought = True
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            if not self._credential:
                raise self.refused(401)
            basic = httpx.BasicAuth(self._credential.username, self._credential.password)
            self._tokens[""] = basic._auth_header
        elif kind.lower() == "bearer":
            parameters = dict(re.findall(r'(\w+)="([^"]*)"', rest))
            self._tokens[scope] = "Bearer " + self._token(parameters, scope, secure)
        else:
            raise Unauthorized(f"{self._registry} asks for an unknown authentication {kind!r}")

    def _token(self, parameters: Mapping[str, str], scope: str, secure: bool) -> str:
        realm = parameters.get("realm", "")
        if not realm.startswith("https://" if secure else ("https://", "http://")):
            raise Unauthorized(f"{self._registry} names no safe place to get a token from")
        query: list[tuple[str, str | int | float | bool | None]] = []
        if "service" in parameters:
            query.append(("service", parameters["service"]))
        query += [
            ("scope", part) for part in (scope or parameters.get("scope", "")).split(" ") if part
        ]
        credential = self._credential
        self._trust(realm)
        try:
            if credential and credential.identity_token:
                form = dict(query) | {
                    "grant_type": "refresh_token",
                    "refresh_token": credential.identity_token,
                    "client_id": "edgekit",
                }
                response = self._http.post(realm, data=form)
            else:
                auth = (credential.username, credential.password) if credential else None
                response = self._http.get(realm, params=httpx.QueryParams(query), auth=auth)
        except httpx.TransportError as error:
            raise Unreachable(f"the token service of {self._registry} does not answer") from error
        if response.status_code != 200:
            raise self.refused(response.status_code)
        try:
            value = response.json()
            return str(value.get("token") or value["access_token"])
        except (ValueError, KeyError, AttributeError) as error:
            raise Unauthorized(f"the token service of {self._registry} gives no token") from error

    def refused(self, code: int) -> Unauthorized:
        """What to raise where the registry refuses with this status."""
        if self._credential:
            user = self._credential.username or "the token"
            return Unauthorized(
                f"{self._registry} refuses {user} ({code})", f"docker login {self._registry}"
            )
        return Unauthorized(
            f"{self._registry} wants credentials and the Docker config has none",
            f"docker login {self._registry}",
        )
