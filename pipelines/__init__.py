"""DVC's stages: each script reads params.yaml, calls zoo and writes its outputs."""

from zoo.errors import tell_interrupts

tell_interrupts()
