"""Chat without a screen: who can answer, a conversation with one or two of them, and how it is kept."""

from finetui.chat.engine import (
    BASE,
    TUNED,
    Answer,
    ChatEngine,
    Message,
    Served,
    TextStream,
    conversation,
    decode,
    resolve,
)
from finetui.chat.settings import Sampling

__all__ = [
    "BASE",
    "TUNED",
    "Answer",
    "ChatEngine",
    "Message",
    "Sampling",
    "Served",
    "TextStream",
    "conversation",
    "decode",
    "resolve",
]
