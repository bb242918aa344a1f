from types import SimpleNamespace

import numpy as np
import pytest

from tests.claims.made import CNN, VIT, arrays, metrics, subject, verdicts

MORE_CNN = subject("d", "cnn", "t", 400)


def groups(models, claim, **results):
    return {names for name, names in verdicts(models, **results) if name == claim}


def test_a_vit_is_held_against_a_cnn_of_other_images_only_where_none_is_of_the_same():
    assert groups([VIT, CNN, MORE_CNN], "R-uniform") == {("v", "c")}
    assert groups([VIT, MORE_CNN], "R-uniform") == {("v", "d")}
    more = subject("w", "vit", "t", 400)
    assert groups([VIT, more, CNN, MORE_CNN], "R-uniform") == {("v", "c"), ("w", "d")}


@pytest.mark.parametrize("change", [{"kwargs": {"depth": 2}}, {"image_size": 8}, {"source": "x"}])
def test_the_same_vit_on_more_data_is_the_same_in_all_else(change):
    more = subject("w", "vit", "t", 400)
    assert groups([VIT, more], "Z-attention", attention_maps=metrics({})) == {("v", "w")}
    spec = SimpleNamespace(**(vars(more.model.spec) | change))
    more.model = SimpleNamespace(spec=spec, module=more.model.module)
    assert groups([VIT, more], "Z-attention", attention_maps=metrics({})) == {()}


def test_a_shared_start_is_said():
    more = subject("w", "vit", "t", 400)
    result = arrays(cka__v__w=np.eye(7) * 0.5)
    found = verdicts([VIT, more], cka=result)["R-low-agree", ("v", "w")]
    assert "start from the same weights" in found.detail
    more.model.spec.seed = 1
    found = verdicts([VIT, more], cka=result)["R-low-agree", ("v", "w")]
    assert "start" not in found.detail
