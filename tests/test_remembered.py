"""What is remembered of a pure function, and for how long."""

from __future__ import annotations

from otcnode.remembered import remembered


def test_the_latest_arguments_are_worked_out_once_and_older_ones_again() -> None:
    worked_out: list[int] = []

    @remembered(2)
    def square(number: int) -> int:
        worked_out.append(number)
        return number * number

    assert [square(number) for number in (3, 3, 4, 3, 5, 4)] == [9, 9, 16, 9, 25, 16]
    assert worked_out == [3, 4, 5, 4]
