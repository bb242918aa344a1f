"""Values in nested lists and mappings: where each stands, and the same with another one there."""

import copy


def places(value, path=()):
    """Yield the path to a value and to each one inside it."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from places(inner, (*path, i))


def put(content, path, value):
    """Return a copy with another value at a place."""
    if not path:
        return value
    copied = copy.deepcopy(content)
    inner = copied
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copied
