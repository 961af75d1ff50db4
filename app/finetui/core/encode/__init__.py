"""The one encoder: a record to ids, labels and the spans that are trained, the same for preview, lock and chat."""

from finetui.core.encode.encoder import Encoded, encode, encode_prompt, encode_rows, render
from finetui.core.encode.jinja import EncodeError
from finetui.core.encode.load import BUILTIN, load_template
from finetui.core.encode.template import Template
from finetui.core.encode.tokenizer import load_tokenizer
from finetui.core.encode.turns import Span

__all__ = [
    "BUILTIN",
    "EncodeError",
    "Encoded",
    "Span",
    "Template",
    "encode",
    "encode_prompt",
    "encode_rows",
    "load_template",
    "load_tokenizer",
    "render",
]
