"""Bounds that depend on each other, beyond what the module itself asserts."""

import ast
from pathlib import Path

from lattice import limits


def test_every_bound_says_its_unit_or_reason() -> None:
    body = ast.parse(Path(limits.__file__).read_text()).body
    units = {"KIB", "MIB"}
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(statement, ast.Assign):
            continue
        (target,) = statement.targets
        assert isinstance(target, ast.Name)
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        assert told or target.id in units, f"{target.id} has no docstring"


def test_bounds_are_above_nothing() -> None:
    values = {name: value for name, value in vars(limits).items() if name.isupper()}

    assert all(value > 0 for value in values.values())


def test_a_host_is_found_dead_before_wadm_forgets_it() -> None:
    assert limits.BEAT_S < limits.HEARTBEAT_S < 70


def test_what_waits_fits_what_may_be_pending() -> None:
    assert limits.MAILBOX_CALLS < limits.CALLS_PENDING_MAX
    assert limits.MAILBOX_BYTES >= limits.PAYLOAD_BYTES_MAX
    assert limits.PAYLOAD_STORE_BYTES_MAX >= 10 * limits.PAYLOAD_BYTES_MAX
