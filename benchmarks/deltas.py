"""What a device fetches for a new model: the whole layer, zstd's patch, or edgekit's delta.

    python benchmarks/deltas.py [--model-mb 14]

Five pairs of an old and a new model, float32 unless they say otherwise; bytes, and processor
seconds to make and to apply the delta. `zstd --patch-from` stands beside it where it is installed.
"""

import argparse
import io
import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import zstandard

from edgekit.oci.difference import apply_difference, write_difference


def pairs(megabytes: float) -> dict[str, tuple[bytes, bytes]]:
    """What happened to the model -> its file before and after."""
    rng = np.random.default_rng(0)
    count = int(megabytes * 1e6 / 4)
    old = rng.normal(0, 0.05, count).astype(np.float32)
    head, some = old.copy(), old.copy()
    head[-count // 100 :] += rng.normal(0, 0.01, count // 100).astype(np.float32)
    some[rng.choice(count, count // 100, replace=False)] *= 1.01
    near = old * (1 + rng.normal(0, 1e-3, count).astype(np.float32))
    int8 = rng.integers(-127, 128, count * 4, dtype=np.int8)
    steps = int8.copy()
    steps[rng.choice(len(steps), len(steps) // 20, replace=False)] ^= 1
    data = old.tobytes()
    return {
        "last 1 % trained further": (data, head.tobytes()),
        "1 % changed, scattered": (data, some.tobytes()),
        "all trained further, by 0.1 %": (data, near.tobytes()),
        "1,001 bytes inserted": (data, data[:5000] + bytes(1001) + data[5000:]),
        "int8, 5 % by one step": (int8.tobytes(), steps.tobytes()),
    }


def patch_from(old: bytes, new: bytes, folder: Path) -> tuple[int, float]:
    """Bytes of zstd's own patch, and processor seconds to make it."""
    (folder / "old").write_bytes(old)
    (folder / "new").write_bytes(new)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run(
        ["zstd", "-q", "-f", "-19", "--long=27", "--patch-from", folder / "old", folder / "new",
         "-o", folder / "patch"],
        check=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    return (folder / "patch").stat().st_size, seconds


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--model-mb", type=float, default=14, help="size of the model")
    arguments = parser.parse_args()
    columns = ("whole", "zstd of it", "zstd patch", "seconds", "delta", "make", "apply")
    print(f"{'':32}" + "".join(f"{column:>13}" for column in columns))
    for name, (old, new) in pairs(arguments.model_mb).items():
        patch = ("-", "-")
        if shutil.which("zstd"):
            with tempfile.TemporaryDirectory() as folder:
                size, seconds = patch_from(old, new, Path(folder))
            patch = (f"{size:,}", f"{seconds:.2f}")
        delta = io.BytesIO()
        began = time.process_time()
        write_difference(io.BytesIO(old), len(old), io.BytesIO(new), len(new), delta)
        make = time.process_time() - began
        delta.seek(0)
        began = time.process_time()
        same = b"".join(apply_difference(delta, io.BytesIO(old), len(new))) == new
        apply = time.process_time() - began
        if not same:
            raise SystemExit(f"{name}: the delta does not give the file back")
        whole, alone = len(new), len(zstandard.ZstdCompressor(level=3).compress(new))
        size = len(delta.getvalue())
        cells = (f"{whole:,}", f"{alone:,}", *patch, f"{size:,}", f"{make:.2f}", f"{apply:.2f}")
        print(f"{name:32}" + "".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    main()
