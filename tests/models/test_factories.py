import contextlib
import json
import os
import sys
import threading
import types

import pytest
import torch
from torch import nn

from zoo.errors import UserError
from zoo.models import factories
from zoo.models.build import build, check_arch, unknown_of_many
from zoo.models.files import load_model, save_model
from zoo.models.spec import ModelSpec

CODE = """
import pathlib
from torch import nn
__version__ = "1.2"
pathlib.Path("ran").write_text("imported")

def make(num_classes=3, width=4):
    scale = nn.Parameter(__import__("torch").linspace(0, 1, 3))
    net = nn.Sequential(nn.Flatten(), nn.Linear(48, width), nn.Linear(width, num_classes))
    net.first = float(scale.detach()[0].item())  # reads a value: impossible on the meta device
    return net

def fail(): raise RuntimeError("no such layer")
def other(): return "text"
def odd(): ...
odd.__signature__ = "none"

import functools, os
from os import system as build_net
small = functools.partial(make, width=2)
hidden = functools.partial(os.system)
bound = "".join
"""
ARCH = "zoo_test_nets:make"


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """A project with a user's module in it, which nobody has trusted."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.delenv(factories.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "zoo_test_nets.py").write_text(CODE)
    yield tmp_path
    sys.modules.pop("zoo_test_nets", None)


@pytest.fixture
def saved(project):
    module = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.Linear(4, 3))
    spec = ModelSpec(
        "mine", ARCH, 4, ["a", "b", "c"], [0.0] * 3, [1.0] * 3,
        origin={"package": "zoo_test_nets", "version": "1.2"},
    )  # fmt: skip
    save_model(project / "model", module, spec)
    return project / "model", module


def test_an_untrusted_factory_is_refused_by_name_and_never_imported(saved, project):
    with pytest.raises(UserError, match=r"zoo_test_nets:make is code .* ZOO_TRUST=zoo_test_nets"):
        load_model(saved[0])
    assert not (project / "ran").exists()


@pytest.mark.parametrize("by", ["file", "environment"])
def test_a_trusted_factory_builds_the_model(saved, monkeypatch, by):
    if by == "file":
        factories.trust(ARCH, {})
    else:
        monkeypatch.setenv(factories.VARIABLE, f"other:make, {ARCH}")
    loaded = load_model(saved[0])
    x = torch.randn(2, 3, 4, 4)
    assert torch.equal(loaded.module(x), saved[1](x))


def test_trust_in_one_factory_is_none_in_its_neighbours(project):
    factories.trust(ARCH, {})
    with pytest.raises(UserError, match="zoo_test_nets:fail is code"):
        build("zoo_test_nets:fail", classes=3, image_size=4)
    assert not (project / "ran").exists()


@pytest.mark.parametrize("kwargs", [{"width": 5}, {"width": True}, {"width": 4, "deep": 1}])
def test_trust_in_a_factory_is_none_with_other_arguments(project, kwargs):
    factories.trust(ARCH, {"width": 1})
    with pytest.raises(UserError, match="have not trusted it with these arguments"):
        build(ARCH, classes=3, image_size=4, **kwargs)
    assert not (project / "ran").exists()


def test_trust_does_not_come_with_files(saved, project, monkeypatch):
    """A project that was cloned or unpacked may bring the code, a list of trust, and a model."""
    (project / ".zoo").mkdir()
    (project / ".zoo" / "trusted-factories").write_text(f"{ARCH}\n" + factories._call(ARCH, {}))
    with pytest.raises(UserError, match="have not trusted it"):
        load_model(saved[0])
    monkeypatch.setenv("XDG_CONFIG_HOME", "settings")  # of whatever folder one is in
    factories_file = project / "settings" / "zoo" / "trusted-factories"
    factories_file.parent.mkdir(parents=True)
    factories_file.write_text(f"{ARCH}\n" + factories._call(ARCH, {}) + "\n")
    with pytest.raises(UserError, match="expected an absolute folder for your settings"):
        load_model(saved[0])
    assert not (project / "ran").exists()


def test_what_one_project_trusts_is_another_ones_code(saved, project, monkeypatch):
    factories.trust(ARCH, {})
    stranger = project / "stranger"
    stranger.mkdir()
    (stranger / "zoo_test_nets.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(stranger)
    with pytest.raises(UserError, match="in this project you have not trusted it"):
        load_model(saved[0])
    assert not (stranger / "ran").exists()


def test_an_untrusted_factorys_project_stays_off_the_path(saved, project):
    with pytest.raises(UserError, match="is code that zoo would have to run"):
        load_model(saved[0])
    assert str(project) not in sys.path


@pytest.mark.parametrize("by", ["file", "environment"])
@pytest.mark.parametrize(
    ("factory", "kwargs"),
    [
        ("os:system", {"command": "touch ran-command"}),
        ("posix:system", {"command": "touch ran-command"}),
        ("subprocess:run", {"args": ["touch", "ran-command"]}),
        ("builtins:exec", {"source": "open('ran-command', 'w')"}),
        ("importlib.metadata:version", {"distribution_name": "torch"}),
        ("zoo_test_nets:build_net", {"command": "touch ran-command"}),
        ("zoo_test_nets:hidden", {"command": "touch ran-command"}),
        ("zoo_test_nets:bound", {}),
    ],
)
def test_the_standard_library_is_never_called(project, monkeypatch, factory, kwargs, by):
    if by == "file":
        factories.trust(factory, kwargs)
    else:
        monkeypatch.setenv(factories.VARIABLE, factory)
    with pytest.raises(UserError, match=f"{factory} is of Python's standard library"):
        build(factory, classes=3, image_size=4, **kwargs)
    assert not (project / "ran-command").exists()


def test_a_partial_of_ones_own_factory_is_ones_own():
    factories.trust("zoo_test_nets:small", {})
    assert build("zoo_test_nets:small", classes=3, image_size=4)[1].out_features == 2


def test_trusting_twice_writes_one_line_and_keeps_the_others(project):
    for name in ("a:b", ARCH, "a:b"):
        factories.trust(name, {"b": 1, "a": [2.5, "é\n"]})
    mine = [x for x in factories.trusted_file().read_text().splitlines() if str(project) in x]
    assert [json.loads(line) for line in mine] == [
        {"factory": name, "kwargs": {"a": [2.5, "é\n"], "b": 1}, "project": str(project)}
        for name in ("a:b", ARCH)
    ]


def test_nobody_else_may_write_where_trust_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "new" / "config"))
    before = os.umask(0)
    try:
        factories.trust("mypkg.nets:make", {})
    finally:
        os.umask(before)
    kept = factories.trusted_file()
    assert [path.stat().st_mode & 0o022 for path in (kept, *kept.parents[:2])] == [0, 0, 0]


def test_a_missing_package_is_named_with_the_version_it_had(saved, project, monkeypatch):
    (project / "zoo_test_nets.py").unlink()
    with pytest.raises(UserError, match=r"needs the Python package zoo_test_nets \(.* version 1.2"):
        load_model(saved[0])


def test_trust_is_not_asked_for_what_is_not_there(saved, project):
    (project / "zoo_test_nets.py").unlink()
    with pytest.raises(UserError, match="zoo_test_nets:make needs the Python package"):
        load_model(saved[0])


def test_a_module_without_a_file_is_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "zoo_bare_nets", types.ModuleType("zoo_bare_nets"))
    with pytest.raises(UserError, match="zoo_bare_nets:make needs the Python package"):
        factories.import_factory("zoo_bare_nets:make")


def test_a_factory_gets_the_sizes_it_takes_and_the_specs_arguments():
    factories.trust(ARCH, {"width": 5})
    module = build(ARCH, classes=7, image_size=4, width=5)
    assert [tuple(p.shape) for p in module.parameters()] == [(5, 48), (5,), (7, 5), (7,)]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fail", "zoo_test_nets:fail raised RuntimeError: no such layer"),
        ("other", "expected a torch.nn.Module, got str"),
        ("nothing", "cannot import zoo_test_nets:nothing: AttributeError"),
        ("__version__", "expected a function or class, got str"),
        ("odd", "zoo_test_nets:odd raised TypeError"),
    ],
)
def test_a_factory_that_gives_no_network_is_named(name, message):
    factories.trust(f"zoo_test_nets:{name}", {})
    with pytest.raises(UserError, match=message):
        build(f"zoo_test_nets:{name}", classes=3, image_size=4)


def test_the_version_is_that_of_the_distribution_or_the_module():
    assert factories.package_version("timm.models:resnet18")["package"] == "timm"
    factories.import_factory(ARCH)
    assert factories.package_version(ARCH) == {"package": "zoo_test_nets", "version": "1.2"}


@pytest.mark.parametrize(
    "arch", ["os.system", "a:b:c", ":make", "a.:b", "a:b()", "a/b:c", "a:b.c", "a:b\n"]
)
def test_what_is_no_factorys_name_is_an_unknown_arch(arch):
    assert not factories.is_factory(arch)
    with pytest.raises(UserError, match="unknown arch"):
        check_arch(arch)


def test_of_hundreds_of_names_those_not_shown_are_counted():
    error = unknown_of_many("model", "renset", [*(f"x{i}" for i in range(1200)), "resnet"])
    assert str(error) == (
        "unknown model 'renset'; did you mean 'resnet'? valid: resnet and 1,200 others"
    )
    assert str(unknown_of_many("model", "?", list("abcd"))).endswith("valid: a, b, c and 1 other")


def test_a_spec_cannot_make_torchvision_load_weights_of_its_own():
    with pytest.raises(UserError, match="multiple values for keyword argument 'weights'"):
        build("torchvision:squeezenet1_1", classes=3, image_size=64, weights="DEFAULT")
    with pytest.raises(UserError, match="unknown torchvision model 'fasterrcnn"):
        check_arch("torchvision:fasterrcnn_resnet50_fpn")


def test_of_two_imports_at_once_both_are_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    both_read = threading.Barrier(2)
    write = factories.write_text

    def slow(path, content):
        with contextlib.suppress(threading.BrokenBarrierError):
            both_read.wait(timeout=0.5)
        write(path, content)

    monkeypatch.setattr(factories, "write_text", slow)
    threads = [threading.Thread(target=factories.trust, args=(f"own:{n}", {})) for n in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(factories.trusted_file().read_text().splitlines()) == 2
