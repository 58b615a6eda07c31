"""The mirror comes from the machine's apt sources."""

import pytest

from edgekit.errors import ImageError
from edgekit.packager.mirror import Mirror, find_mirror


@pytest.fixture
def sources(tmp_path, monkeypatch):
    monkeypatch.delenv("EDGEKIT_DEBIAN_MIRROR", raising=False)
    monkeypatch.delenv("EDGEKIT_DEBIAN_SECURITY_MIRROR", raising=False)

    def write(name, text):
        path = tmp_path / "etc" / "apt" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return tmp_path

    return write


def test_one_line_sources(sources):
    root = sources(
        "sources.list",
        "# deb http://commented.example/debian bookworm main\n"
        "deb [arch=amd64 signed-by=/x.gpg] http://one.example/debian/ trixie main contrib # note\n"
        "deb-src http://source.example/debian trixie main\n"
        "deb http://two.example/debian-security trixie-security main\n",
    )
    assert find_mirror(root) == Mirror(
        "http://one.example/debian", "http://two.example/debian-security"
    )


def test_deb822_sources(sources):
    root = sources(
        "sources.list.d/debian.sources",
        "Types: deb deb-src\n# a comment\nURIs: https://one.example/debian\n"
        "Suites: bookworm bookworm-updates\nComponents: main\n\n"
        "Types: deb\nURIs: https://two.example/security\nSuites: bookworm-security\n"
        "Components: main\n",
    )
    assert find_mirror(root) == Mirror("https://one.example/debian", "https://two.example/security")


@pytest.mark.parametrize(
    "text",
    [
        "deb http://third.example/apt bookworm stable\n",
        "deb http://third.example/apt cloud-bookworm main\n",
        "deb http://ubuntu.example/ubuntu noble main\n",
        "deb file:/media/cdrom bookworm main\n",
        "",
    ],
)
def test_other_archives_are_none(sources, text):
    with pytest.raises(ImageError) as error:
        find_mirror(sources("sources.list", text))
    assert "EDGEKIT_DEBIAN_MIRROR" in error.value.hint


def test_a_disabled_source_is_none(sources):
    root = sources(
        "sources.list.d/x.sources",
        "Enabled: no\nTypes: deb\nURIs: http://one.example/debian\nSuites: bookworm\n"
        "Components: main\n",
    )
    with pytest.raises(ImageError):
        find_mirror(root)


def test_the_environment_wins(sources, monkeypatch):
    root = sources("sources.list", "deb http://one.example/debian bookworm main\n")
    monkeypatch.setenv("EDGEKIT_DEBIAN_MIRROR", "http://mine.example/debian/")
    assert find_mirror(root) == Mirror("http://mine.example/debian")
