import pytest

from zoo.errors import UserError
from zoo.files import write_text
from zoo.registry.history import Point, digests, extend_digest, read_history


def test_epochs_and_steps_become_points_on_their_own_axes(make_folder):
    points = read_history(make_folder()).points
    assert Point("validation/accuracy", 0.45, 2) in points
    assert Point("train/step_loss", 1.3, 3) in points
    assert [p.step for p in points if p.key == "learning_rate"] == [1, 2, 3, 4]
    assert not {"epoch", "step"} & {p.key for p in points}


def test_a_folder_without_history_has_none(tmp_path):
    assert read_history(tmp_path).points == []


@pytest.mark.parametrize(
    "content", ["epoch,step\n1,x\n", "epoch,step\n1\n", "step\n1\n", "epoch,step\ninf,1\n"]
)
def test_a_damaged_history_is_named(tmp_path, content):
    write_text(tmp_path / "epochs.csv", content)
    with pytest.raises(UserError, match=r"epochs\.csv is damaged"):
        read_history(tmp_path)


def test_the_identity_of_full_precision_rows_is_that_of_the_written_ones():
    live = {"epoch": 1, "train/loss": 1.23456789, "seconds": 0.5}
    written = {"seconds": 0.5, "epoch": 1.0, "train/loss": 1.234568}
    assert extend_digest("", live) == digests([written])[0]


def test_every_epoch_changes_the_identity():
    rows = [{"epoch": float(i), "seconds": 0.5} for i in range(4)]
    assert len(set(digests(rows))) == 4
    assert digests(rows)[:2] == digests(rows[:2])
    assert digests([rows[1], rows[0]])[1] != digests(rows)[1]
