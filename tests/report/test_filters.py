import pytest

from zoo.report.filters import format_number, keep_whole


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


def test_names_stay_whole_and_markup_is_escaped():
    names = ["a", "vit-b", "vit-b-16", "<b>", "x-" * 17]
    assert keep_whole("vit-b-16 <i> a vit-b, <b> has 5 %", names) == (
        '<span class="whole">vit-b-16</span> &lt;i&gt; a <span class="whole">vit-b</span>, '
        '<span class="whole">&lt;b&gt;</span> has 5\xa0%'
    )
    assert "span" not in keep_whole(f"my-vit-b {'x-' * 17} vit-base", names)
    assert keep_whole("5 %", ["a"]) == "5\xa0%"
