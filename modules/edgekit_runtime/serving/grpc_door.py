"""The door for gRPC: the Open Inference Protocol V2 and TensorFlow Serving's PredictionService."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from edgekit_runtime.errors import (
    ModelNotFound,
    ModuleError,
    Overloaded,
    RequestError,
    SettingsError,
    Unauthenticated,
    Unavailable,
)
from edgekit_runtime.serving.messages import MESSAGES
from edgekit_runtime.serving.open_inference import OpenInference
from edgekit_runtime.serving.service import Service
from edgekit_runtime.serving.tensorflow_serving import PredictionService
from edgekit_runtime.settings import Address, Settings, Tls

log = logging.getLogger(__name__)

# the first that fits
CODES: tuple[tuple[type[ModuleError], grpc.StatusCode], ...] = (
    (ModelNotFound, grpc.StatusCode.NOT_FOUND),
    (RequestError, grpc.StatusCode.INVALID_ARGUMENT),
    (Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
)
SPARE = 16  # calls beside inferences: health, metadata
# who starts and watches containers has no token
OPEN = frozenset({"ServerLive", "ServerReady"})

Metadata = dict[str, str]
Method = Callable[[Any, Metadata], Awaitable[Any]]


class GrpcDoor:
    """A server that takes requests."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    @classmethod
    async def open(cls, settings: Settings, service: Service) -> "GrpcDoor":
        """Open the door on `settings.grpc_port`.

        Raises:
            SettingsError: the port is taken, or a file of TLS does not read.
        """
        server = grpc.aio.server(
            # beyond this, holding a request only to refuse it would take memory
            maximum_concurrent_rpcs=2 * settings.queue + SPARE,
            options=[
                ("grpc.max_receive_message_length", settings.max_body),
                ("grpc.max_send_message_length", -1),
                # a second program on this port must fail, not take every other request
                ("grpc.so_reuseport", 0),
            ],
        )
        for name, package, methods in (
            ("inference.GRPCInferenceService", "inference", OpenInference(service).methods()),
            (
                "tensorflow.serving.PredictionService",
                "tensorflow.serving",
                PredictionService(service).methods(),
            ),
        ):
            server.add_generic_rpc_handlers((_handlers(name, package, methods, service),))
        address = Address(settings.http.host, settings.grpc_port)
        try:
            if settings.tls is None:
                server.add_insecure_port(str(address))
            else:
                server.add_secure_port(str(address), _credentials(settings.tls))
        except RuntimeError as error:
            raise SettingsError(
                f"cannot listen on {address} for gRPC",
                "set EDGEKIT_BIND and EDGEKIT_GRPC_PORT to a free address",
            ) from error
        await server.start()
        log.info("gRPC on %s", address)
        return cls(server)

    async def drain(self, seconds: float) -> None:
        """Take nothing new; return when what has come is answered, or time is up."""
        await self._server.stop(seconds)


def _handlers(
    name: str, package: str, methods: dict[str, Method], service: Service
) -> grpc.GenericRpcHandler:
    return grpc.method_handlers_generic_handler(
        name,
        {
            method: grpc.unary_unary_rpc_method_handler(
                _guarded(function, MESSAGES[f"{package}.{method}Request"], service, method in OPEN),
                response_serializer=lambda message: message.SerializeToString(),
            )
            for method, function in methods.items()
        },
    )


def _guarded(
    function: Method, message: Any, service: Service, is_open: bool
) -> Callable[..., Awaitable[Any]]:
    """The method behind the token, its errors told as gRPC does; `message` is what it takes."""

    async def handle(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        metadata = {
            str(key): value
            for key, value in context.invocation_metadata() or ()
            if isinstance(value, str)
        }
        try:
            if not is_open:
                service.tokens.check(metadata.get("authorization", ""))
            return await function(message.FromString(request), metadata)
        except DecodeError:
            refusal = grpc.StatusCode.INVALID_ARGUMENT, f"this is no {message.DESCRIPTOR.name}"
        except ModuleError as error:
            code = next((code for kind, code in CODES if isinstance(error, kind)), None)
            if code is None:
                raise
            # outside of this block, since it raises
            refusal = code, str(error)
        except Exception:
            log.exception("a request could not be answered")
            refusal = grpc.StatusCode.INTERNAL, "the scorer failed; see its log"
        return await context.abort(*refusal)

    return handle


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    try:
        pair = tls.key.read_bytes(), tls.certificate.read_bytes()
        authority = tls.client_authority.read_bytes() if tls.client_authority else None
    except OSError as error:
        raise SettingsError(f"{error.filename} does not read: {error.strerror}") from error
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=bool(authority))
