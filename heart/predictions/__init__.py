"""The prediction log: each prediction, durable before its response is sent; SQLite or PostgreSQL."""
