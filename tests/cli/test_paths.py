"""A path on the command line means one folder, and a folder of somebody else's is left alone."""

import pytest

WRITERS = [
    ["pull", "vit-small"],
    ["compare", "vit-small", "vit-gap-small", "--out"],
    ["probe", "vit-small", "--data-root", "SUBSETS", "--out"],
    ["transfer", "vit-small", "--source", "digits", "--out"],
]


@pytest.fixture
def write_to(registered, zoo, digits_folder):
    """Run a command that writes into a folder and is to be refused; return its one line."""

    def run(command, path):
        arguments = [str(digits_folder) if word == "SUBSETS" else word for word in command]
        (line,) = zoo(*arguments, path, status=2).splitlines()
        return line

    return run


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: command[0])
def test_absent_parents_do_not_lead_to_the_folder_of_somebody_else(write_to, registered, command):
    precious = registered / "reports" / "precious"  # removed after each test
    precious.mkdir(parents=True)
    (precious / "file").write_text("keep")
    line = write_to(command, "reports/absent/../precious")
    assert f"refusing to overwrite {precious}, which zoo did not write: it contains file" in line
    assert [p.name for p in (registered / "reports").rglob("*")] == ["precious", "file"]
    assert (precious / "file").read_text() == "keep"


@pytest.mark.parametrize("command", WRITERS, ids=lambda command: command[0])
def test_the_home_of_nobody_is_no_folder(write_to, registered, command):
    before = sorted(registered.iterdir())
    assert "~nosuch/x: no home folder is known for ~nosuch; write ./~nosuch" in write_to(
        command, "~nosuch/x"
    )
    assert sorted(registered.iterdir()) == before


def test_references_and_sources_have_no_home_of_nobody_either(zoo, registered):
    for command in (
        ["show", "~nosuch/model"],
        ["transfer", "vit-small", "--source", "imagefolder", "--root", "~nosuch/photos"],
    ):
        assert "no home folder is known for ~nosuch" in zoo(*command, status=2)
