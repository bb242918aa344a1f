"""Looking inside a network while it runs: the only place with hooks."""

from zoo.capture.layers import Layer, select_layers, trace
from zoo.capture.taps import Tap, observe

__all__ = ["Layer", "Tap", "observe", "select_layers", "trace"]
