"""The one encoder: a record to ids, labels and the spans that are trained, the same for preview, lock and chat."""

from finetui.core.encode.encoded import NOT_TRAINED, Encoded
from finetui.core.encode.encoder import encode, encode_prompt, encode_rows, render
from finetui.core.encode.jinja import EncodeError
from finetui.core.encode.load import BUILTIN, load_template
from finetui.core.encode.pieces import pieces
from finetui.core.encode.template import Template
from finetui.core.encode.tokenizer import load_tokenizer
from finetui.core.encode.turns import Span
from finetui.core.encode.views import View, encode_views, kind_of

__all__ = [
    "BUILTIN",
    "NOT_TRAINED",
    "EncodeError",
    "Encoded",
    "Span",
    "Template",
    "View",
    "encode",
    "encode_prompt",
    "encode_rows",
    "encode_views",
    "kind_of",
    "load_template",
    "load_tokenizer",
    "pieces",
    "render",
]
