"""Datasets: containers, detection, conversion to the canonical record, and every problem of every row."""

from finetui.data.conversion import convert
from finetui.data.inspection import inspect
from finetui.data.problems import Place
from finetui.data.reader import Record, Rejected
from finetui.data.reading import Reading
from finetui.data.records import DataSource, Records, iter_records
from finetui.data.results import Conversion, Inspection

__all__ = [
    "Conversion",
    "DataSource",
    "Inspection",
    "Place",
    "Reading",
    "Record",
    "Records",
    "Rejected",
    "convert",
    "inspect",
    "iter_records",
]
