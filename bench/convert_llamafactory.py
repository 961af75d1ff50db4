"""What bench/convert.py runs under LLaMA-Factory's interpreter: one file through its own loader, to aligned rows.

    PYTHON bench/convert_llamafactory.py SHAPE FILE

Prints the CPU seconds of its imports and of the loading, as one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments

COLUMNS = {
    "belle": {"formatting": "alpaca"},
    "sharegpt": {"formatting": "sharegpt"},
    "tools": {"formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}},
}


def cpu_seconds() -> float:
    """User and system seconds of this process and its finished children."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def main() -> None:
    """Load the file as a dataset with an entry of its own."""
    imported, began = cpu_seconds(), time.monotonic()
    shape, source = sys.argv[1], Path(sys.argv[2])
    entry = {"bench": {"file_name": source.name, **COLUMNS[shape]}}
    (source.parent / "dataset_info.json").write_text(json.dumps(entry), "utf-8")
    data = DataArguments(dataset_dir=str(source.parent), preprocessing_num_workers=int(os.environ.get("WORKERS", "1")))
    model = ModelArguments(model_name_or_path="none", cache_dir=os.environ["HF_HOME"])
    training = Seq2SeqTrainingArguments(output_dir=str(source.parent / "out"), use_cpu=True, report_to="none")
    rows = _load_single_dataset(get_dataset_list(["bench"], data.dataset_dir)[0], model, data, training)
    told = {"rows": len(rows), "imports": imported, "loading": cpu_seconds() - imported}
    print(json.dumps({**told, "seconds": time.monotonic() - began}), file=sys.stderr)


if __name__ == "__main__":
    main()
