"""DVC's stages: each script reads params.yaml, calls zoo and writes its outputs."""
