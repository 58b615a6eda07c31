"""An image that needs no registry: one program that waits, linked into nothing."""

import io
import json
import tarfile
from collections.abc import Iterator

import pytest

# x86-64 Linux: pause(2) in a loop, then exit; assembled by hand so that no compiler is needed
CODE = bytes.fromhex(
    "b822000000"  # mov eax, 34 (pause)
    "0f05"  # syscall
    "ebf7"  # jmp back
)


def waiting_program() -> bytes:
    """An ELF file of one segment that sleeps until it is killed."""
    base, head = 0x400000, 64 + 56
    size = head + len(CODE)

    def number(value: int, width: int) -> bytes:
        return value.to_bytes(width, "little")

    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += number(2, 2) + number(62, 2) + number(1, 4) + number(base + head, 8)
    header += number(64, 8) + number(0, 8) + number(0, 4)
    header += number(64, 2) + number(56, 2) + number(1, 2) + bytes(6)
    segment = number(1, 4) + number(5, 4) + number(0, 8) + number(base, 8) * 2
    segment += number(size, 8) * 2 + number(0x1000, 8)
    return header + segment + CODE


@pytest.fixture
def static_image() -> Iterator[str]:
    """The id of an image whose only program waits."""
    import docker

    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("wait")
        member.mode, member.size = 0o755, len(waiting_program())
        tar.addfile(member, io.BytesIO(waiting_program()))
    client = docker.from_env()
    reply = client.api.import_image_from_data(archive.getvalue(), changes=['CMD ["/wait"]'])

    image = json.loads(reply.strip().splitlines()[-1])["status"]
    yield image
    client.api.remove_image(image, force=True)
    client.close()
