"""What the tests of the operator's side share."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# how long an example takes says more about the machine than about the code
settings.register_profile("edgekit", deadline=None)
settings.load_profile("edgekit")


SOFTHSM = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/local/lib/softhsm/libsofthsm2.so")
PIN = "4321"


@pytest.fixture(scope="session")
def softhsm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A token of the tests' own, and the path of its library."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    with pytest.MonkeyPatch.context() as patch:
        # the library reads it once for a process
        patch.setenv("SOFTHSM2_CONF", str(folder / "softhsm2.conf"))
        subprocess.run(
            ["softhsm2-util", "--init-token", "--free", "--label", "release",
             "--so-pin", "12345678", "--pin", PIN],
            check=True,
            capture_output=True,
        )  # fmt: skip
        yield next(path for path in SOFTHSM if Path(path).exists())


@pytest.fixture
def token(softhsm: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URI of a key, with `{}` for its name; the PIN is in the environment."""
    monkeypatch.setenv("EDGEKIT_PKCS11_PIN", PIN)
    return f"pkcs11:token=release;object={{}}?module-path={softhsm}"
