import pytest

from zoo.report.filters import format_number


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0.000"),
        (1234.5, "1,234.500"),
        (1e9, "1,000,000,000"),
        (-3, "−3"),
        (True, "yes"),
        (float("nan"), "–"),
        (3.2e8 + 0.5, "3.2e+08"),
        (-0.0001, "−1.0e−04"),
    ],
)
def test_numbers_are_written_for_people(value, written: str):
    assert format_number(value) == written
