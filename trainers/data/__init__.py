"""The data of a training: a labelled set, read or made, and its split into T1, T2 and test."""

from trainers.data.files import DataError
from trainers.data.samples import Samples
from trainers.data.split import Split, load_split

__all__ = ["DataError", "Samples", "Split", "load_split"]
