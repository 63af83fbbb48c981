"""Data sets: files, downloads, and the split into T1, T2 and test."""

from trainers.data.files import DataError
from trainers.data.split import Samples, Split, load_split

__all__ = ["DataError", "Samples", "Split", "load_split"]
