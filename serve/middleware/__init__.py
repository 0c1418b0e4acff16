"""ASGI middleware of the service: admission control, client deadlines, instrumentation; `stack` orders it."""
