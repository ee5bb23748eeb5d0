"""Labels by a chat model, wherever it runs: prompts, answer schema and validation."""

from __future__ import annotations

from latentscale.labelers.chat.labeler import ChatLabeler
from latentscale.labelers.chat.options import ChatOptions
from latentscale.labelers.chat.protocol import Chat, Question, Reply
from latentscale.labelers.options import WHERE, read_options

__all__ = ["WHERE", "Chat", "ChatLabeler", "ChatOptions", "Question", "Reply", "read_options"]
