"""What a regulariser of the user's own may be called: nothing that the tables give a meaning."""

from __future__ import annotations

import pytest

from service import SpecError
from service.ledger.schema import schemas
from service.spec.names import COLUMNS, check_custom_names


def test_the_columns_are_those_of_the_schemas() -> None:
    assert {name for schema in schemas([]).values() for name in schema.names} == COLUMNS


@pytest.mark.parametrize(
    "name",
    [*sorted(COLUMNS), "member", "T2_Loss", "x_initial", "x_final", "hypergradient_x", "log10_l2_x", "input_noise_std"],
)
def test_a_name_with_another_meaning_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=rf"^hyperparameters.custom = 'm:{name}': must be named by an attribute that"):
        check_custom_names([f"m:{name}"])


@pytest.mark.parametrize("name", ["flip", "a.b", "stepwise", "initial", "loss", "my_log10_l2"])
def test_any_other_is_fine(name: str) -> None:
    check_custom_names([f"m:{name}"])
