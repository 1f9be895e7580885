"""Rows: every DynamoDB request either plane can make, as values. The tenant id comes first."""
