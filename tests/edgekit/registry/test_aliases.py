from pathlib import Path

import pytest

from edgekit.errors import Conflict, InUse, NotFound, RegistryError
from edgekit.registry import ModelRef, Query, Registry

PRODUCTION = ModelRef("digits", alias="production")


@pytest.fixture
def two(registry: Registry, digits: Path) -> Registry:
    registry.register(digits, "digits")
    registry.register(digits, "digits")
    return registry


def test_an_alias_stands_for_a_version_and_moves(two: Registry) -> None:
    two.set_alias(ModelRef("digits", 1), "production")
    assert two.get(PRODUCTION).version == 1

    two.set_alias(ModelRef("digits", 2), "production")

    assert two.get(PRODUCTION).version == 2
    assert [version.aliases for version in two.models()] == [(), ("production",)]


def test_an_alias_can_be_set_by_another(two: Registry) -> None:
    two.set_alias(ModelRef("digits", 1), "trial")

    assert two.set_alias(ModelRef("digits", alias="trial"), "production").version == 1


def test_each_model_has_aliases_of_its_own(two: Registry, digits: Path) -> None:
    two.register(digits, "other")
    two.set_alias(ModelRef("digits", 2), "production")
    two.set_alias(ModelRef("other", 1), "production")

    assert two.get(PRODUCTION).version == 2


def test_a_protected_alias_guards_its_version_and_its_place(two: Registry) -> None:
    two.set_alias(ModelRef("digits", 1), "production", protected=True)

    with pytest.raises(InUse, match="digits:1 is used by protected alias production"):
        two.delete(ModelRef("digits", 1))
    with pytest.raises(Conflict, match="stays at version 1 and is not moved"):
        two.set_alias(ModelRef("digits", 2), "production")
    with pytest.raises(Conflict, match="stays at version 1 and is not removed"):
        two.remove_alias("digits", "production")
    assert two.set_alias(ModelRef("digits", 1), "production").aliases == ("production",)


def test_lifting_the_protection_lets_an_alias_move(two: Registry) -> None:
    two.set_alias(ModelRef("digits", 1), "production", protected=True)

    two.set_alias(ModelRef("digits", 2), "production", protected=False)
    two.delete(ModelRef("digits", 1))
    two.remove_alias("digits", "production")

    with pytest.raises(NotFound, match="no alias production of digits"):
        two.get(PRODUCTION)


def test_an_alias_of_a_deleted_version_comes_back_with_it(two: Registry) -> None:
    two.set_alias(ModelRef("digits", 1), "production")
    two.delete(ModelRef("digits", 1))
    with pytest.raises(NotFound, match="no alias production"):
        two.get(PRODUCTION)

    two.restore(ModelRef("digits", 1))

    assert two.get(PRODUCTION).version == 1


def test_an_alias_of_a_deleted_version_can_be_moved(two: Registry) -> None:
    two.set_alias(ModelRef("digits", 1), "production")
    two.delete(ModelRef("digits", 1))

    assert two.set_alias(ModelRef("digits", 2), "production").version == 2


@pytest.mark.parametrize("name", ["latest", "", "3", "3a", "A", "a b"])
def test_a_name_that_cannot_be_an_alias_is_refused(two: Registry, name: str) -> None:
    with pytest.raises(RegistryError):
        two.set_alias(ModelRef("digits", 1), name)


def test_searching_by_text_and_by_lineage(two: Registry, digits: Path) -> None:
    two.register(digits, "small", parent=ModelRef("digits", 1), tags={"Data": "UCI 100%"})
    two.register(digits, "smaller", parent=ModelRef("small", 1))
    two.set_alias(ModelRef("digits", 2), "production")

    def found(query: Query) -> list[str]:
        return [str(version.ref) for version in two.models(query)]

    assert found(Query(text="SMALL")) == ["small:1", "smaller:1"]
    assert found(Query(text="uci")) == ["small:1"]
    assert found(Query(text="data")) == ["small:1"]
    assert found(Query(text="100%")) == ["small:1"]
    assert found(Query(text="%")) == ["small:1"]
    assert found(Query(text="product")) == ["digits:2"]
    assert found(Query(uses=ModelRef("digits", 1))) == ["small:1", "smaller:1"]
    assert found(Query(uses=ModelRef("digits", 2))) == []
    assert found(Query(uses=ModelRef("digits", 1), text="smaller")) == ["smaller:1"]
