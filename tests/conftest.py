"""What holds for every test: hypothesis measures nothing but truth, for the machines that run this are shared."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("perpflow", deadline=None)
settings.load_profile("perpflow")
