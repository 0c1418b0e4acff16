"""The prediction log: each prediction is durable before its response is sent; in SQLite or PostgreSQL."""
