"""Everything that speaks to DynamoDB: connections, tables, the sender, and what its errors mean."""
