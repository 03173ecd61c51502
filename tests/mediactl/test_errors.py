"""Exit statuses of the error codes of the control API."""

from typing import get_args

import pytest

from mediactl.errors import Exit, failure_of
from proxy.control import schema


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("not_found", Exit.NOT_FOUND),
        ("ambiguous", Exit.NOT_FOUND),
        ("bad_request", Exit.USAGE),
        ("internal", Exit.UNREACHABLE),
        ("node", Exit.NODE),
        ("refused", Exit.REFUSED),
    ],
)
def test_every_code_has_its_status(code: schema.ErrorCode, status: Exit) -> None:
    failure = failure_of(schema.ControlError(code, "a sentence"))
    assert (failure.code, failure.message) == (status, "a sentence")


def test_no_code_is_forgotten() -> None:
    assert set(get_args(schema.ErrorCode)) == {"not_found", "ambiguous", "bad_request", "internal", "node", "refused"}


def test_a_code_of_a_newer_proxy_is_an_error_too() -> None:
    assert failure_of(schema.Error(code="novel", message="x")).code == Exit.UNREACHABLE
