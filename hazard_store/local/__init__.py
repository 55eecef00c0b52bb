"""A real DynamoDB on this machine: Amazon's DynamoDB Local, fetched once and started when asked for."""
