import pickle

import pytest

from promo_ray import errors


def _examples() -> list[errors.PromoRayError]:
    made: list[errors.PromoRayError] = [
        errors.DataError("prices must be > 0; got -1", where="events.csv"),
        errors.InfeasibleError(("floor of segment 2",), 0.5),
    ]
    plain = [
        c
        for c in vars(errors).values()
        if isinstance(c, type) and issubclass(c, errors.PromoRayError)
    ]
    made += [c("message") for c in plain if c is not errors.InfeasibleError]
    return made


@pytest.mark.parametrize("error", _examples(), ids=lambda e: type(e).__name__)
def test_errors_keep_type_text_and_fields_across_pickling(error: errors.PromoRayError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.__dict__ == error.__dict__


def test_every_error_has_an_exit_code_of_the_contract() -> None:
    codes = {type(e).exit_code for e in _examples()}
    assert codes <= {1, 2, 3}
    assert errors.InfeasibleError.exit_code == 3
    assert errors.ConfigError.exit_code == errors.DataError.exit_code == 2
