"""Every error of ours is one a caller can catch by our root or by Python's own kind."""

import inspect

import pytest

from fieldwright import errors

KINDS = {
    "InputError": ValueError,
    "RecipeError": ValueError,
    "DataError": ValueError,
    "SolverError": ArithmeticError,
    "TrainingError": ArithmeticError,
    "StorageError": OSError,
    "ClusterError": ConnectionError,
}


def test_the_list_is_complete():
    found = {n for n, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.FieldwrightError)}
    assert found == {*KINDS, "FieldwrightError"}


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_an_error_carries_its_sentence_under_both_kinds(name, kind):
    error = getattr(errors, name)
    for caught in (kind, errors.FieldwrightError):
        with pytest.raises(caught, match="shard 3 is truncated"):
            raise error("shard 3 is truncated")
