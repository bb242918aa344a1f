"""`zoo compare` in two processes: what one finds, written and told once."""

import pytest
import xarray as xr

from tests.warm import run
from zoo.comparison import open_results

ASKED = (
    "compare", "vit-small", "vit-gap-small", "--images", "64", "--batch-size", "12", "--quiet",
    "--only", "accuracy,cka,attention-maps,receptive-field,grad-cam,probes,calibration",
)  # fmt: skip


@pytest.mark.slow
def test_two_processes_find_what_one_finds(registered, zoo):
    zoo(*ASKED, "--out", "reports/alone")
    alone = open_results(registered / "reports" / "alone").tree
    for more in ((), ("--force",)):  # found, and computed
        done = run(registered, "zoo", *ASKED, *more, "--out", "reports/both", processes=2)
        assert done.stdout.splitlines() == ["reports/both/report.html"]
    together = open_results(registered / "reports" / "both").tree
    assert list(together.children) == list(alone.children)
    for node in alone.descendants:  # the root holds the command and the date
        both = node.to_dataset(), together[node.path].to_dataset()
        xr.testing.assert_allclose(*both, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_an_unknown_model_is_told(registered):
    done = run(registered, "zoo", "compare", "vit-small", "nobody", processes=2, check=False)
    assert done.returncode == 2
    told = {line for line in done.stderr.splitlines() if line.startswith("Error:")}
    assert len(told) == 1
    assert "nobody" in told.pop()
    assert not (registered / "reports").exists()
