"""What a scorer counts, in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from edgekit_runtime.serving.models import Model, Models

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
OF_REQUEST = ("door", "model", "version")


class Metrics:
    """Counters of one scorer. Doors are `rest`, `grpc`, `predict` (TensorFlow Serving), `mqtt`."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "edgekit_requests",
            "Inference requests by how they ended: ok, refused, overloaded, unavailable, failed.",
            (*OF_REQUEST, "outcome"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "edgekit_request_seconds",
            "From when a request joined the queue to when its answer was written.",
            OF_REQUEST,
            buckets=BUCKETS,
            registry=self._registry,
        )
        self._swaps = Counter(
            "edgekit_model_loads",
            "Models loaded while serving, by outcome: ok, failed.",
            ("model", "outcome"),
            registry=self._registry,
        )
        self._cycles = Counter(
            "edgekit_npu_cycles",
            "Cycles of the NPU, from start to done.",
            ("model", "version"),
            registry=self._registry,
        )
        self._waiting = Gauge(
            "edgekit_queue_waiting", "Requests that wait or run.", registry=self._registry
        )
        self._ready = Gauge(
            "edgekit_ready", "1 when requests from every door are taken.", registry=self._registry
        )
        self._served = Gauge(
            "edgekit_model_served", "1 for each model served.", OF_REQUEST[1:],
            registry=self._registry,
        )  # fmt: skip

    def count(self, door: str, model: Model, outcome: str, seconds: float) -> None:
        """One request has ended."""
        self._requests.labels(door, model.name, model.version, outcome).inc()
        if outcome == "ok":
            self._seconds.labels(door, model.name, model.version).observe(seconds)

    def count_message(self, model: Model | None, seconds: float) -> None:
        """A message of the broker was answered by a model, or refused."""
        if model is None:
            self._requests.labels("mqtt", "", "", "refused").inc()
        else:
            self.count("mqtt", model, "ok", seconds)

    def count_load(self, model: str, outcome: str) -> None:
        """A model was loaded while serving, or could not be."""
        self._swaps.labels(model, outcome).inc()

    def count_cycles(self, model: Model, cycles: int) -> None:
        """The NPU worked for a model."""
        self._cycles.labels(model.name, model.version).inc(cycles)

    def write(self, models: Models, waiting: int, ready: bool) -> bytes:
        """All of it, as Prometheus reads it."""
        self._waiting.set(waiting)
        self._ready.set(ready)
        self._served.clear()
        for model in models:
            self._served.labels(model.name, model.version).set(1)
        return generate_latest(self._registry)
