"""A DynamoDB with the service's limits, latency and failures, for tests and benchmarks.

A proxy in front of DynamoDB Local, which knows none of these. It deals out write capacity by partition and table,
refuses what exceeds it as the service does, injects faults, and counts what it did::

    with limited_dynamodb(database.endpoint, table_wcu=2_000, latency_ms=8) as store:
        os.environ["HAZARD_STORE_ENDPOINT"] = store.endpoint
        store.set_faults(internal_error=0.1, timeout_after={"rate": 0.05, "hang_secs": 10})
        ...
        print(store.counts()["wcu"])

Reads take no capacity; of writes, those in transactions take none either.
"""

from benchmarks.limited_dynamodb.process import LimitedDynamoDb, limited_dynamodb

__all__ = ["LimitedDynamoDb", "limited_dynamodb"]
