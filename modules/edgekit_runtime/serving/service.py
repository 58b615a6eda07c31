"""What every door of a scorer goes through: the token, the bounded queue, the measurements."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

from edgekit_runtime.errors import Overloaded, RequestError, Unauthenticated, Unavailable
from edgekit_runtime.serving.metrics import Metrics
from edgekit_runtime.serving.models import Model, Models

T = TypeVar("T")


class Tokens:
    """The tokens that open the doors; without any, the doors are open.

    Args:
        tokens: any of them will do, so that one can be replaced while clients still have the other.
    """

    def __init__(self, tokens: tuple[str, ...] = ()) -> None:
        self._digests = tuple(_digest(token) for token in tokens)

    def check(self, authorization: str) -> None:
        """See that `Bearer TOKEN` names one of the tokens; takes as long for each wrong one.

        Raises:
            Unauthenticated: it does not.
        """
        if not self._digests:
            return
        scheme, _, token = authorization.partition(" ")
        given = _digest(token.strip())
        # every one is compared, so that time tells nothing of which comes close
        matches = [hmac.compare_digest(given, digest) for digest in self._digests]
        if scheme.lower() != "bearer" or not any(matches):
            raise Unauthenticated("a token is needed: authorization: Bearer TOKEN")


@dataclass
class Service:
    """What the doors share.

    Attributes:
        models: that are served.
        executor: its threads run the models.
        queue: requests that may wait or run before others are turned away.
        tokens: that open the doors.
        metrics: what happened so far.
        ready: says whether requests from every door are being taken.
        waiting: requests that wait or run.
        draining: it ends; nothing new is taken.
    """

    models: Models
    executor: Executor
    queue: int
    tokens: Tokens
    metrics: Metrics
    ready: Callable[[], bool]
    waiting: int = 0
    draining: bool = False

    def is_ready(self) -> bool:
        """Whether requests from every door are being taken, for at least one model."""
        return self.ready() and not self.draining and len(self.models) > 0

    async def work(self, door: str, model: Model, function: Callable[[], T]) -> T:
        """Run a request's work in a thread of the executor.

        Args:
            door: it came through, for the measurements.
            model: it is for.
            function: decodes, runs the model, encodes.

        Raises:
            Overloaded: too many wait already.
            RequestError, Unavailable: what `function` raises.
        """
        if self.waiting >= self.queue:
            self.metrics.count(door, model, "overloaded", 0.0)
            raise Overloaded(f"{self.queue} requests wait already")
        self.waiting += 1
        begin = time.perf_counter()
        outcome = "failed"
        try:
            loop = asyncio.get_running_loop()
            made = await loop.run_in_executor(self.executor, function)
            outcome = "ok"
        except RequestError:
            outcome = "refused"
            raise
        except Unavailable:
            outcome = "unavailable"
            raise
        finally:
            self.waiting -= 1
            self.metrics.count(door, model, outcome, time.perf_counter() - begin)
        return made


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
