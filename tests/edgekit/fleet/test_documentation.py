from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_documentation_shows_the_example_as_it_is():
    example = (ROOT / "examples/digits-fleet/fleet.yaml").read_text()
    assert f"```yaml\n{example}```" in (ROOT / "docs/fleet.md").read_text()
