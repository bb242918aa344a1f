"""Means over groups of images, as the measures of spread take them."""

from zoo.measures.replicates import GroupedMean

GROUPS = 12


def means(values):
    """The mean of values (groups, …), whole and without each group."""
    found = GroupedMean(GROUPS)
    found.add(values)
    return found.result()
