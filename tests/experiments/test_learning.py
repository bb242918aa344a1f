"""Learning curves of a study: read as training wrote them, a panel a subset, a colour a model."""

from zoo.experiments.learning import Learning, draw, read_learning

EPOCHS = """\
epoch,step,train/loss,validation/loss,validation/accuracy
1,10,2.0,1.9,0.25
2,20,1.5,,
3,30,1.0,0.9,0.75
"""


def test_epochs_without_a_validation_are_left_out(tmp_path):
    (tmp_path / "epochs.csv").write_text(EPOCHS)
    curve = read_learning("vit", "small", tmp_path / "epochs.csv")
    assert curve == Learning("vit", "small", (10, 30), (0.25, 0.75))


def test_a_panel_holds_the_curves_of_its_subset_in_the_colours_of_their_models():
    curves = [
        Learning(model, subset, (1, 2), (0.1 * i, 0.2 * i))
        for i, (model, subset) in enumerate(
            [("vit", "small"), ("cnn", "small"), ("cnn", "small"), ("vit", "full")], 1
        )
    ]
    figure = draw(curves, title="digits")
    small, full = figure.axes
    assert (small.get_title(), full.get_title()) == ("small", "full")
    drawn = [(line.get_label(), list(line.get_ydata())) for line in small.get_lines()]
    assert drawn == [(c.model, list(c.accuracy)) for c in curves[:3]]
    vit, cnn, seed = (line.get_color() for line in small.get_lines())
    assert vit != cnn == seed
    assert full.get_lines()[0].get_color() == vit
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["vit", "cnn"]
