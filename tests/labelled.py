"""Reading results by their labels, as tests do it over and over."""

import numpy as np

from zoo.study.axes import select


def values(result, what, network="", network_b="", layer=""):
    """Values of a variable: of a network or pair along its axes, or of that network's part."""
    if what in result.data.data_vars:
        found = select(result.data[what], network, network_b)
        for dim in found.dims:  # heads and poolings that other networks have
            if dim in ("head", "pooling", "branch"):
                found = found.dropna(dim, how="all")
        return found.values
    return result.part(network, layer, network_b)[what].values


def layers(result, network, what=None):
    """Names of a network's layers along the axis of its variables."""
    name = result.data["name"] if what is None else result.data[what]["name"]
    return tuple(str(n) for n in select(name, network).values)


def ends(result, what, network="", network_b=""):
    """Lower and upper ends of a variable's interval."""
    return np.moveaxis(values(result, f"{what}_ci", network, network_b), -1, 0)


def figures(drawn):
    """Figures by the names under which they are saved."""
    found = {d.kind.format("__".join(d.of)): d.figure for d in drawn}
    assert len(found) == len(drawn)
    return found
