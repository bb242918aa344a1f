import dataclasses

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models.files import describe_module
from zoo.models.untrained import before_training, untrained_network


def test_it_starts_from_the_weights_of_the_models_own_seed(make_model):
    model = make_model("vit", "v")
    model = dataclasses.replace(model, spec=dataclasses.replace(model.spec, seed=3))
    before = torch.random.get_rng_state()
    found = before_training(model)
    assert torch.equal(before, torch.random.get_rng_state())
    assert found.name == "v untrained"
    assert not found.module.training
    expected = untrained_network(model.spec, 3).module.state_dict()
    other = untrained_network(model.spec, 4).module.state_dict()
    weights = found.module.state_dict()
    assert all(torch.equal(weights[name], w) for name, w in expected.items())
    assert not all(torch.equal(weights[name], w) for name, w in other.items())


def test_it_is_not_known_of_wrapped_networks_and_of_other_ones_by_a_known_name(make_model):
    names = [str(i) for i in range(10)]
    wrapped = describe_module(nn.Linear(3, 10), name="w", image_size=8, class_names=names)
    assert before_training(wrapped) is None
    called_vit = describe_module(
        nn.Linear(3, 10), name="w", image_size=16, class_names=names, arch="vit"
    )
    assert before_training(called_vit) is None
    model = make_model("vit", "v")
    no_classes = dataclasses.replace(model, spec=dataclasses.replace(model.spec, class_names=[]))
    assert before_training(no_classes) is None


def test_what_was_trained_here_is_known_whatever_its_architecture(make_model):
    spec = dataclasses.replace(make_model("vit", "v").spec, arch="resnet10t", kwargs={})
    model = untrained_network(spec, 0)
    assert before_training(model) is None
    spec = dataclasses.replace(spec, subset_digest="0" * 64)
    assert before_training(dataclasses.replace(model, spec=spec)) is None
    assert before_training(dataclasses.replace(model, spec=spec, digest="1" * 64)) is not None


def test_what_cannot_be_built_is_named_by_one_and_skipped_by_the_other(make_model):
    model = make_model("vit", "v")
    spec = dataclasses.replace(model.spec, arch="no_such_net", subset_digest="0" * 64)
    with pytest.raises(UserError, match="no_such_net"):
        untrained_network(spec, 0)
    assert before_training(dataclasses.replace(model, spec=spec, digest="1" * 64)) is None
