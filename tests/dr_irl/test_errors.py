"""What a shell sees of a failure."""

import pytest

from dr_irl import errors


@pytest.mark.parametrize("kind", [errors.SettingsError, errors.DataError, errors.ModelError, errors.StoreError])
def test_a_users_mistake_ends_with_status_2(kind: type[errors.DrIrlError]) -> None:
    assert kind("x").exit_status == 2


@pytest.mark.parametrize("kind", [errors.CorruptArtifactError, errors.DivergenceError])
def test_a_failure_that_is_nobodys_mistake_ends_with_status_1(kind: type[errors.DrIrlError]) -> None:
    assert kind("x").exit_status == 1


def test_no_error_of_ours_repeats_a_password() -> None:
    assert (
        str(errors.DrIrlError("cannot reach http://user:secret@proxy:3128/")) == "cannot reach http://***@proxy:3128/"
    )
