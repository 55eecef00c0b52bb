"""Credentials that expire while a run goes on: asked for anew where they came from, and the request sent once more.

botocore renews what its source dates: roles, containers, a ``credential_process`` that tells when its keys end. It
never looks again at a profile that another program keeps fresh, and believes the date when the service does not.
"""

from __future__ import annotations

from typing import Any

from botocore.credentials import ReadOnlyCredentials
from botocore.exceptions import CredentialRetrievalError, NoCredentialsError
from botocore.session import get_session

EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException"})

# Times that a request is sent again with new credentials: whose are refused as well are not there.
MAX_RENEWALS = 1


class ClientCredentials:
    """The credentials that a botocore client signs with.

    Parameters
    ----------
    client : botocore client
    """

    def __init__(self, client: Any) -> None:
        # botocore has no public way to see a client's credentials, or to give it others.
        self._signer = client._request_signer

    def current(self) -> ReadOnlyCredentials:
        """Give them, renewed by botocore if they are about to expire.

        Raises
        ------
        NoCredentialsError, CredentialRetrievalError
            If there are none, or the source has only expired ones, where botocore raises a ``RuntimeError``.
        """
        credentials = self._signer._credentials
        if credentials is None:
            raise NoCredentialsError
        try:
            return credentials.get_frozen_credentials()
        except RuntimeError as exc:
            raise CredentialRetrievalError(provider=credentials.method, error_msg=str(exc)) from exc

    def renew(self) -> None:
        """Ask the source for them anew."""
        # A session of its own: those of one session are kept as long as it lives.
        self._signer._credentials = get_session().get_credentials()


def renew_when_expired(client: Any) -> None:
    """Let a client's own requests be signed anew, once each, when the service calls its credentials expired."""
    credentials = ClientCredentials(client)

    def require(**_: Any) -> None:
        credentials.current()

    def renew(attempts: int, response: tuple[Any, dict[str, Any]] | None = None, **_: Any) -> float | None:
        """Give the seconds to wait before the request is sent again; None if that is not ours to say."""
        code = None if response is None else response[1].get("Error", {}).get("Code")
        if code not in EXPIRED_CODES or attempts > MAX_RENEWALS:
            return None
        credentials.renew()
        return 0.0

    client.meta.events.register("before-sign.dynamodb", require)
    client.meta.events.register("needs-retry.dynamodb", renew)
