"""Looking inside a network while it runs: the only place with hooks."""

from zoo.capture.hook_points import HookPoint, observe
from zoo.capture.layers import Layer, select_layers, trace

__all__ = ["HookPoint", "Layer", "observe", "select_layers", "trace"]
