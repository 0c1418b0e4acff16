"""Metrics of requests and of the prediction log. None holds a value of a patient."""

from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from heart.http.messages import SAFE_METHODS
from serve.model_manager import Event
from serve.patient_metrics import PatientMetrics

LATENCIES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
LAGS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
METHODS = (*SAFE_METHODS, "POST", "DELETE", "PUT")
V1 = "/v1"  # the prefix of the routes of the API
REJECTED_ROUTE = "rejected"  # the route of requests that are rejected before routing
ROWS = (1, 2, 5, 10, 20, 50, 100, 1000, 10_000)


class Metrics:
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "heart_requests", "Responses", ["method", "route", "status"], registry=registry
        )
        self.latency = Histogram(
            "heart_request_duration_seconds",
            "Time from a request to its response",
            ["route"],
            buckets=LATENCIES,
            registry=registry,
        )
        # Finding a series by its labels takes longer than counting.
        self._responses = cache(
            lambda method, path, status: self.requests.labels(method, route_label(path), status)
        )
        self._latencies = cache(lambda path: self.latency.labels(route_label(path)))
        self.rejections = Counter(
            "heart_requests_rejected", "Requests rejected for overload", registry=registry
        )
        self.patients = PatientMetrics()
        registry.register(self.patients)
        self.commit_rows = Histogram(
            "heart_log_commit_rows",
            "Rows in a commit of the prediction log",
            buckets=ROWS,
            registry=registry,
        )
        self.commit_latency = Histogram(
            "heart_log_commit_duration_seconds",
            "Duration of a commit of the prediction log",
            buckets=LATENCIES,
            registry=registry,
        )
        self.loop_lag = Histogram(
            "heart_event_loop_lag_seconds",
            "Time by which the event loop wakes a task too late",
            buckets=LAGS,
            registry=registry,
        )
        self.erasures = Counter("heart_erasures", "Predictions erased", registry=registry)
        for method in ("DELETE", "POST"):
            self._responses(method, REJECTED_ROUTE, 503)

    def add_route(self, method: str, path: str) -> None:
        """Start the series of a route's server errors at 0.

        The rate of a counter that appears at 1 misses its first event, and so would an alert.
        """
        for status in (500, 503):
            self._responses(method, path, status)

    def count_shed(self, method: str) -> None:
        """Count a request that admission control rejects before routing."""
        self.rejections.inc()
        self.count_rejection(method, 503)

    def count_rejection(self, method: str, status: int) -> None:
        """Count a request that is rejected before routing, for any reason."""
        self._responses(method_label(method), REJECTED_ROUTE, status).inc()

    def observe_response(self, method: str, path: str, status: int, seconds: float) -> None:
        """Count a response and its latency, by the path of its route."""
        self._responses(method_label(method), path, status).inc()
        self._latencies(path).observe(seconds)

    def on_model_event(self, event: Event, detail: str) -> None:
        """Start the series of a version when it is loaded."""
        if event == "loaded":
            self.patients.start(detail)

    def observe_commit(self, rows: int, seconds: float) -> None:
        """Count a commit of the prediction log."""
        self.commit_rows.observe(rows)
        self.commit_latency.observe(seconds)


def route_label(path: str) -> str:
    """The path of a route as a label: the same with and without the prefix."""
    return path.removeprefix(V1)


def method_label(method: str) -> str:
    """A method as a label: clients may send any text as a method."""
    return method if method in METHODS else "other"
