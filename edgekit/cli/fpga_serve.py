"""`edgekit fpga serve`: FPGA packages behind the doors of the scorer, on this machine."""

import json
import logging
from pathlib import Path

import click

from edgekit.cli.fpga_backend import backend_options, package_file
from edgekit.cli.output import json_option
from edgekit.errors import EdgekitError

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("serve")
@click.argument("packages", nargs=-1, required=True, metavar="PACKAGE...")
@backend_options
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--http-port", default=8080, show_default=True, help="REST, health and metrics.")
@click.option("--grpc-port", default=8081, show_default=True, help="gRPC; 0 for none.")
@click.option(
    "--broker", metavar="HOST:PORT", help="MQTT broker: inputs/input1 to outputs/output1."
)
@click.option("--queue", default=64, show_default=True, help="Requests that may wait.")
@click.option("--token-file", type=FILE, help="Wanted from clients; one token a line.")
@click.option("--tls-cert", type=FILE, help="Certificate chain, PEM; with --tls-key.")
@click.option("--tls-key", type=FILE, help="Its key, PEM.")
@click.option("--tls-client-ca", type=FILE, help="Only clients that this authority signed.")
@json_option
def serve(
    packages: tuple[str, ...],
    backend: str,
    device: str,
    baud: int,
    bind: str,
    http_port: int,
    grpc_port: int,
    queue: int,
    as_json: bool,
    **more: str | Path | None,
) -> None:
    """Serve each PACKAGE until Ctrl-C: over REST and gRPC, and MQTT where a broker is named.

    PACKAGE is a file, served under its name, or NAME:VERSION of a model that was compiled into the
    registry (NAME:VERSION@BOARD where it was for several boards). REST and gRPC speak the Open
    Inference Protocol V2, gRPC TensorFlow Serving's Predict as well. A file that changes is taken
    over without dropping a request. With --json one line says where it listens, once it does.

    \b
    Examples:
      edgekit fpga serve digits.npu
      edgekit fpga serve digits-int8:1 gate-int8:3 --backend board --device /dev/ttyUSB0
      edgekit fpga serve digits.npu --bind 0.0.0.0 --token-file tokens --grpc-port 50051
    """
    try:
        from edgekit_runtime.fpga_scorer import serve as serve_packages
        from edgekit_runtime.fpga_scorer.packages import Source
        from edgekit_runtime.settings import Settings
    except ImportError as error:
        raise EdgekitError(
            f"{error.name} is not installed", "pip install 'edgekit[runtime,grpc]'"
        ) from error
    sources = []
    for text in packages:
        path, ref = package_file(text)
        name, version = (path.stem, "") if ref is None else (ref.name, str(ref.version))
        sources.append(Source(path, name, version))
    environment = {
        "EDGEKIT_BIND": bind,
        "EDGEKIT_HTTP_PORT": str(http_port),
        "EDGEKIT_GRPC_PORT": str(grpc_port),
        "EDGEKIT_QUEUE": str(queue),
        "EDGEKIT_BACKEND": backend,
        "EDGEKIT_DEVICE": device,
        "EDGEKIT_BAUD": str(baud),
        "EDGEKIT_BROKER": more["broker"],
        "EDGEKIT_TOKEN_FILE": more["token_file"],
        "EDGEKIT_TLS_CERT": more["tls_cert"],
        "EDGEKIT_TLS_KEY": more["tls_key"],
        "EDGEKIT_TLS_CLIENT_CA": more["tls_client_ca"],
    }
    given = {name: str(value) for name, value in environment.items() if value is not None}
    logging.getLogger("edgekit_runtime").setLevel(logging.INFO)

    def opened(port: int) -> None:
        description = {
            "http": f"{'https' if more['tls_cert'] else 'http'}://{bind}:{port}",
            "grpc": f"{bind}:{grpc_port}" if grpc_port else None,
            "packages": [str(source.path) for source in sources],
            "backend": backend,
        }
        click.echo(json.dumps(description))

    settings = Settings.read(given, "fpga-scorer")
    serve_packages(settings, sources, opened if as_json else None)
