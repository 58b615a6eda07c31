"""A blocking AMQP client of a few lines, to say what no SDK would."""

import contextlib
import socket
import time
from typing import Any

from edgekit_sim.amqp.composites import (
    Attach,
    Begin,
    Close,
    Composite,
    Detach,
    End,
    Error,
    Flow,
    Open,
    SaslInit,
    SaslOutcome,
    Source,
    Target,
    Transfer,
    read_composite,
)
from edgekit_sim.amqp.connection import AMQP_HEADER, SASL_HEADER
from edgekit_sim.amqp.frames import AMQP, SASL, Frame, FrameReader, write_frame
from edgekit_sim.amqp.message import Message, Value, read_message, write_message
from edgekit_sim.amqp.sasl import ANONYMOUS
from edgekit_sim.amqp.types import Symbol
from edgekit_sim.iothub import tokens
from edgekit_sim.iothub.handle import HubHandle

SECONDS = 20.0


def token(hub: HubHandle, seconds: float = 3600, path: str = "", policy: str = "") -> str:
    """A token of the owner's policy, or another's with a key that is not its own."""
    fields = dict(part.split("=", 1) for part in hub.service_connection_string.split(";"))
    resource = f"sb://{hub.hostname}{path}"
    expiry = int(time.time() + seconds)
    name = policy or fields["SharedAccessKeyName"]
    return tokens.sign(resource, fields["SharedAccessKey"], expiry, name)


class AmqpClient:
    """Connects to a hub's plain port and goes as far as a session."""

    def __init__(self, hub: HubHandle, init: SaslInit | None = None) -> None:
        self._socket = socket.create_connection((hub.gateway, hub.ports["amqp"]), SECONDS)
        self._reader = FrameReader(1024 * 1024)
        self._handles = 0
        self._unread: list[Frame] = []
        self.payload = b""
        self.raw(SASL_HEADER)
        self._header()
        self.say(init or SaslInit(ANONYMOUS), kind=SASL)
        self.outcome = self.expect(SaslOutcome).outcome
        if self.outcome == 0:
            self.raw(AMQP_HEADER)
            self._header()
            self.say(Open("client"))
            self.say(Begin(None, 0, 2000, 2000))
            self.expect(Begin)

    def __enter__(self) -> "AmqpClient":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(data)

    def end(self) -> None:
        """Say no more."""
        with contextlib.suppress(OSError):  # the hub has hung up
            self._socket.shutdown(socket.SHUT_WR)

    def say(self, body: Composite, payload: bytes = b"", kind: int = AMQP) -> None:
        """Send a frame."""
        self.raw(write_frame(kind, 0, body, payload))

    def _more(self) -> bool:
        data = self._socket.recv(65536)
        self._reader.feed(data)
        return bool(data)

    def _header(self) -> None:
        while self._reader.header() is None:
            assert self._more()

    def frame(self) -> Frame | None:
        """The next frame; None when the hub has hung up."""
        while (frame := self._reader.frame()) is None:
            try:
                if not self._more():
                    return None
            except ConnectionResetError:
                return None
        return frame

    def expect(self, *kinds: type[Composite]) -> Any:
        """The next frame of one of these kinds; others wait until they are asked for."""
        found = [one for one in self._unread if isinstance(one.body, (*kinds, Close, End))]
        while not found:
            frame = self.frame()
            assert frame is not None, "the hub has hung up"
            (found if isinstance(frame.body, (*kinds, Close, End)) else self._unread).append(frame)
        if found[0] in self._unread:
            self._unread.remove(found[0])
        self.payload = found[0].payload
        return found[0].body

    def attach(
        self,
        address: str,
        receives: bool,
        filters: dict[str, Any] | None = None,
        properties: dict[str, Any] | None = None,
        settled: bool = True,
    ) -> tuple[int, str]:
        """Attach a link; returns its handle, and the condition when it is refused."""
        handle, self._handles = self._handles, self._handles + 1
        here = Source(address, filter={Symbol(k): v for k, v in (filters or {}).items()})
        self.say(
            Attach(
                name=f"link-{handle}",
                handle=handle,
                role=receives,
                snd_settle_mode=1 if receives and settled else 0,
                source=here if receives else Source("client"),
                target=Target("client") if receives else Target(address),
                initial_delivery_count=None if receives else 0,
                properties={Symbol(k): v for k, v in (properties or {}).items()},
            )
        )
        answer = self.expect(Attach)
        if (answer.source if receives else answer.target) is not None:
            return handle, ""
        return handle, condition(self.expect(Detach))

    def credit(self, handle: int, credit: int) -> None:
        """Let the hub send."""
        self.say(Flow(0, 2000, 0, 2000, handle, 0, credit))

    def send(self, handle: int, message: Message) -> None:
        """Send a message."""
        self.say(Transfer(handle, 0, b"tag", 0, settled=True), write_message(message))

    def message(self) -> Message:
        """The next message."""
        transfer = self.expect(Transfer)
        assert isinstance(transfer, Transfer), transfer
        return read_message(self.payload)

    def put_token(self, text: str) -> int:
        """Put a token; returns the status."""
        sender, _ = self.attach("$cbs", False)
        receiver, _ = self.attach("$cbs", True)
        self.credit(receiver, 1)
        asked = {"operation": "put-token", "type": "servicebus.windows.net:sastoken", "name": "x"}
        self.send(sender, Message(Value(text), {"message_id": "1"}, asked))
        status = self.message().application["status-code"]
        assert isinstance(status, int)
        return status


def condition(body: Any) -> str:
    """The condition in a detach, end or close."""
    error = read_composite(body.error)
    assert isinstance(error, Error)
    return error.condition
