"""Everything on one machine: a DynamoDB, a Prefect server with its UI, and a demo that uses both."""
