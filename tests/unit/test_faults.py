import botocore.exceptions as bc
import pytest
from pynamodb.exceptions import QueryError

from hazard_store.errors import CredentialsError, StorageError, StoreUnreachableError, TableMissingError
from hazard_store.settings import Settings
from hazard_store.storage.faults import FAULT_OF_CODE, Fault, RetryPolicy, classify, to_storage_error, translated

ERROR_OF_FAULT = {
    Fault.THROTTLED: StorageError,
    Fault.SERVER: StorageError,
    Fault.CONNECTION: StoreUnreachableError,
    Fault.CREDENTIALS: CredentialsError,
    Fault.TABLE_MISSING: TableMissingError,
    Fault.REFUSED: StorageError,
}


def client_error(code: str, status: int = 400) -> bc.ClientError:
    return bc.ClientError(
        {"Error": {"Code": code, "Message": "why"}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutItem"
    )


@pytest.mark.parametrize("code", FAULT_OF_CODE)
def test_every_known_code_has_its_fault_and_its_error(code: str) -> None:
    fault = classify(client_error(code))
    assert fault is FAULT_OF_CODE[code]
    error = to_storage_error(client_error(code), Settings(stage="S"), "T-S")
    assert type(error) is ERROR_OF_FAULT[fault]
    assert "\n" not in str(error)


def test_unknown_codes_are_retried_only_when_the_server_is_at_fault() -> None:
    assert classify(client_error("Novelty", 503)) is Fault.SERVER
    assert classify(client_error("Novelty", 400)) is Fault.REFUSED
    assert classify(ValueError("ours")) is Fault.REFUSED


def test_pynamodb_errors_are_translated_by_their_cause() -> None:
    with pytest.raises(TableMissingError, match="tables create"), translated(Settings(), "T"):
        raise QueryError(cause=client_error("ResourceNotFoundException"))


def test_delays_grow_to_the_cap_and_are_jittered() -> None:
    policy = RetryPolicy(base_delay_secs=0.1, max_delay_secs=1.0)
    for attempt, cap in ((1, 0.2), (2, 0.4), (10, 1.0), (2_000, 1.0)):
        delays = [policy.delay_secs(attempt) for _ in range(200)]
        assert 0 <= min(delays) < max(delays) <= cap
        assert max(delays) > 0.8 * cap
