"""`zoo compare` in two processes: what one finds, written and told once."""

import pytest
import xarray as xr

from zoo.comparison import open_results

TOGETHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "zoo")
ASKED = (
    "compare", "vit-small", "vit-gap-small", "--images", "64", "--batch-size", "12", "--quiet",
    "--only", "accuracy,cka,attention-maps,receptive-field,grad-cam,probes,calibration",
)  # fmt: skip


@pytest.mark.slow
def test_two_processes_find_what_one_finds(registered, zoo, start):
    zoo(*ASKED, "--out", "reports/alone")
    alone = open_results(registered / "reports" / "alone").tree
    for more in ((), ("--force",)):  # found, and computed
        job = start(*TOGETHER, *ASKED, *more, "--out", "reports/both", OMP_NUM_THREADS="1")
        out, error = job.communicate(timeout=300)
        assert job.returncode == 0, error
        assert out.splitlines() == ["reports/both/report.html"]
    together = open_results(registered / "reports" / "both").tree
    assert list(together.children) == list(alone.children)
    for node in alone.descendants:  # the root holds the command and the date
        both = node.to_dataset(), together[node.path].to_dataset()
        xr.testing.assert_allclose(*both, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_an_unknown_model_is_told(registered, start):
    job = start(*TOGETHER, "compare", "vit-small", "nobody", OMP_NUM_THREADS="1")
    _, error = job.communicate(timeout=300)
    assert job.returncode != 0
    told = {line for line in error.splitlines() if line.startswith("Error:")}
    assert len(told) == 1
    assert "nobody" in told.pop()
    assert not (registered / "reports").exists()
