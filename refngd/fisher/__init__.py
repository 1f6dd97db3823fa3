"""The approximations of the Fisher matrix, one file a family; `base` says what each of them offers."""

from .base import Fisher, Identity, fisher_information
from .entrywise import Entrywise, QuasiDiagonal
from .kfac import KFAC
from .sigma import BlockDiagonal, BlockTridiagonal, Exact, Layerwise
from .unitwise import Unitwise

__all__ = [
    "KFAC",
    "BlockDiagonal",
    "BlockTridiagonal",
    "Entrywise",
    "Exact",
    "Fisher",
    "Identity",
    "Layerwise",
    "QuasiDiagonal",
    "Unitwise",
    "fisher_information",
]
