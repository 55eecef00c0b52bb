"""Credentials that expire while a run goes on: asked for anew where they came from, and the request sent once more.

botocore renews what its source dates: roles, containers, a ``credential_process`` that tells when its keys end. It
never looks again at a profile that another program keeps fresh, and believes the date when the service does not.
"""

from __future__ import annotations

import threading
from typing import Any

from botocore.exceptions import CredentialRetrievalError
from botocore.session import get_session

EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException"})

# Times that a request is sent again with new credentials: whose are refused as well are not there.
MAX_RENEWALS = 1


class CredentialRenewal:
    """Handlers of a client's events: one looks at its credentials before each request, one renews them after an answer.

    Parameters
    ----------
    client : botocore client
    """

    def __init__(self, client: Any) -> None:
        # botocore has no public way to give a client other credentials.
        self._signer = client._request_signer
        self._lock = threading.Lock()
        client.meta.events.register("before-sign.dynamodb", self.require_unexpired)
        client.meta.events.register("needs-retry.dynamodb", self.renew)

    def require_unexpired(self, **_: Any) -> None:
        """Raise what other missing credentials raise, where botocore raises a ``RuntimeError``."""
        credentials = self._signer._credentials
        try:
            if credentials is not None:
                credentials.get_frozen_credentials()
        except RuntimeError as exc:
            raise CredentialRetrievalError(provider=credentials.method, error_msg=str(exc)) from exc

    def renew(self, attempts: int, response: tuple[Any, dict[str, Any]] | None = None, **_: Any) -> float | None:
        """Give the seconds to wait before the request is signed and sent anew; None if that is not ours to say."""
        if response is None or response[1].get("Error", {}).get("Code") not in EXPIRED_CODES:
            return None
        if attempts > MAX_RENEWALS:
            return None
        with self._lock:
            # A session of its own: those of one session are kept as long as it lives.
            self._signer._credentials = get_session().get_credentials()
        return 0.0
