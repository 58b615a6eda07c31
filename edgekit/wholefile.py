"""Writes a file so that it is there as a whole or not at all, whoever is killed meanwhile."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` when the block ends without an error.

    It has a temporary name beside `path`, is flushed to disk and then renamed, in place of what
    was there.

    Args:
        path: the file; its folder is there.
        mode: who may read and write it, as far as the umask allows.

    Raises:
        OSError: it cannot be written.
    """
    # as short as it can be: a name of the greatest length must not become too long
    temporary = path.with_name(f".partial-{os.urandom(8).hex()}")
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename = str(path)  # the other name says nothing to anybody
        raise
    finally:
        with suppress(FileNotFoundError, NotADirectoryError):
            temporary.unlink()
