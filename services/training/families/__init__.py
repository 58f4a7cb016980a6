"""Model families, one file each: a fitter that takes examples and returns what answers them, in its own framework and
as an ONNX graph."""

from services.training.families.family import (
    FAMILIES,
    Explained,
    Family,
    FamilyError,
    FitRequest,
    FittedFamily,
    Looking,
    Task,
    installed_families,
    load_family,
)

__all__ = [
    "FAMILIES",
    "Explained",
    "Family",
    "FamilyError",
    "FitRequest",
    "FittedFamily",
    "Looking",
    "Task",
    "installed_families",
    "load_family",
]
