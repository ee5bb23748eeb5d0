"""Tokenise texts into arrays with the library ``tokenizers`` alone, truncated or split into windows.

The tokenizer runs without its own truncation; NumPy cuts texts and adds special tokens for all texts of a call at once.
The ids equal those of a tokenizer of transformers with ``truncation=True, max_length=limit``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from latentscale.embedders.model_folder import read_tokenizer
from latentscale.embedders.model_json import is_mapping, read_object
from latentscale.embedders.wordpieces import WordPieces, tokenizer_errors
from latentscale.errors import ConfigError

# A call of the tokenizer allocates about a hundred bytes per token.
_TEXTS_AT_ONCE = 4_096
# Texts of several kinds that may follow a prompt, to find the tokens that do not depend on what follows.
_FOLLOWING = ("a", "The", "9", "(", "字")
_CHARACTERS_AT_ONCE = 4_000_000
_PROBE = "a b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Tokens of texts, in windows: one per text, or several if a long text is chunked.

    Attributes
    ----------
    ids : int32 ndarray
        Concatenated tokens of all windows, including special tokens and prompts.
    bounds : int64 ndarray, shape (n_windows + 1,)
        Window ``i`` has tokens ``bounds[i]`` to ``bounds[i + 1]``.
    text : int64 ndarray, shape (n_windows,)
        Index of each window's text, ascending.
    content : int32 ndarray, shape (n_windows,)
        Number of tokens of each window without special tokens and prompt: its weight in the mean of a text.
    truncated, empty : bool ndarray, shape (n_texts,)
        Whether tokens of the text were left out, and whether the model knows none of its tokens. An empty text has one
        window too.
    read, unknown : int
        Number of tokens of all windows without special tokens and prompts, and the unknown ones among them.
    """

    ids: NDArray[np.int32]
    bounds: NDArray[np.int64]
    text: NDArray[np.int64]
    content: NDArray[np.int32]
    truncated: NDArray[np.bool_]
    empty: NDArray[np.bool_]
    read: int
    unknown: int

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Number of tokens of each window, special tokens included (int32, shape (n_windows,))."""
        return np.diff(self.bounds).astype(np.int32)


class TextTokenizer:
    """Tokenises texts.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Modified: its own truncation and padding are disabled.
    limit : int
        Maximum number of tokens of a window, including special tokens and prompt.
    prompt : str
        Prepended to each text.
    long : {"truncate", "chunk"}
        Truncate a longer text, or split it into windows, each with the prompt.
    overlap : int
        Number of tokens that a window shares with the previous one.

    Raises
    ------
    ConfigError
        If the limit leaves no room for a text, or the overlap is not less than that room.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        limit: int,
        prompt: str = "",
        long: Literal["truncate", "chunk"] = "truncate",
        overlap: int = 0,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._pieces = WordPieces(tokenizer)
        self._prompt = prompt
        self._limit = limit
        self._chunk = long == "chunk"
        self._overlap = overlap
        self._unknown = unknown_token(tokenizer)
        self.before, self.after = special_tokens(tokenizer)
        self._prompt_alone, self._prompt_ids = self._prompt_tokens(prompt)
        room = limit - len(self.before) - len(self.after) - len(self._prompt_ids)
        if room < 1:
            raise ConfigError(
                f"{limit} tokens leave no room for a text: {limit - room} are special tokens and the prompt",
                where="embed.max_tokens",
                hint="Allow more tokens, or use a shorter prompt.",
            )
        if self._chunk and overlap >= room:
            raise ConfigError(
                f"windows that hold {room} tokens of a text cannot share {overlap}",
                where="embed.options.overlap",
                hint=f"Use an overlap of at most {room // 2}, or a larger embed.max_tokens.",
            )
        self._room = room

    @property
    def chunks(self) -> bool:
        """Whether a text may have several windows."""
        return self._chunk

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens at the start of each window that pooling without the prompt excludes.

        Special tokens and those of the prompt tokenised alone, as sentence-transformers counts them.
        """
        return len(self.before) + len(self._prompt_alone)

    def _prompt_tokens(self, prompt: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return the tokens of the prompt alone, and those of them that do not depend on the text that follows.

        If a prompt ends with a space, SentencePiece merges that space with the first word of the text. If that token
        counted as part of the prompt, a text of one word would be empty.
        """
        if not prompt:
            return np.empty(0, np.int32), np.empty(0, np.int32)
        alone = self._pieces.encode([prompt])[0]
        kept = len(alone)
        for text in _FOLLOWING:
            ids = self._pieces.encode([prompt + text])[0][:kept]
            same = ids == alone[: len(ids)]
            kept = len(ids) if same.all() else int(same.argmin())
        return alone, alone[:kept]

    def _without_text(self, raw: NDArray[np.int32], sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each text has only the tokens of the prompt (bool, shape of ``sizes``)."""
        alone = len(self._prompt_alone)
        without = sizes == alone
        starts = (np.cumsum(sizes) - sizes)[without]
        same = raw[starts[:, None] + np.arange(alone)] == self._prompt_alone
        without[without] = same.all(axis=1)
        return without

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Tokenise ``texts``, in order.

        Raises
        ------
        ConfigError
            If the tokenizer fails for a text.
        """
        portions = [self._pieces.encode(portion) for portion in self._portions(texts)]
        ids = np.concatenate([portion[0] for portion in portions]) if portions else np.empty(0, np.int32)
        sizes = np.concatenate([portion[1] for portion in portions]) if portions else np.empty(0, np.int64)
        return self._windows(ids, sizes)

    def _portions(self, texts: Sequence[str]) -> Iterator[list[str]]:
        begin = characters = 0
        for at, size in enumerate(map(len, texts)):
            if at > begin and (at - begin == _TEXTS_AT_ONCE or characters + size > _CHARACTERS_AT_ONCE):
                yield [self._prompt + text for text in texts[begin:at]]
                begin, characters = at, 0
            characters += size
        if len(texts):
            yield [self._prompt + text for text in texts[begin:]]

    def _windows(self, raw: NDArray[np.int32], sizes: NDArray[np.int64]) -> Tokens:
        """Cut tokens of texts into windows, with special tokens and prompts."""
        prompt, room = len(self._prompt_ids), self._room
        starts = np.cumsum(sizes) - sizes
        content = np.where(self._without_text(raw, sizes), 0, np.maximum(sizes - prompt, 0))
        step = room - self._overlap
        counts = np.ones(len(sizes), np.int64)
        if self._chunk:
            counts += np.maximum(-(-(content - room) // step), 0)
        text = np.repeat(np.arange(len(sizes)), counts)
        number = np.arange(len(text)) - np.repeat(np.cumsum(counts) - counts, counts)
        taken = np.clip(content[text] - number * step, 0, room)
        # The tokens of the first window include the prompt; it is prepended to the others.
        first = number == 0
        own = taken + np.where(first, np.minimum(sizes[text], prompt), 0)
        begins = starts[text] + np.where(first, 0, prompt + number * step)
        again = np.where(first, 0, prompt)
        heads, tails = len(self.before), len(self.after)
        bounds = np.zeros(len(text) + 1, np.int64)
        np.cumsum(heads + again + own + tails, out=bounds[1:])
        ids = np.empty(int(bounds[-1]), np.int32)
        after = np.cumsum(own) - own
        within = np.arange(int(own.sum())) - np.repeat(after, own)
        ids[within + np.repeat(bounds[:-1] + heads + again, own)] = raw[within + np.repeat(begins, own)]
        for place, token in enumerate(self.before):
            ids[bounds[:-1] + place] = token
        for place, token in enumerate(self._prompt_ids):
            ids[bounds[:-1][~first] + heads + place] = token
        for place, token in enumerate(self.after):
            ids[bounds[1:] - tails + place] = token
        # Number of unknown tokens before each position: any range is a difference of two.
        unknown = np.zeros(len(raw) + 1, np.int64)
        np.cumsum(np.zeros(len(raw), np.bool_) if self._unknown is None else raw == self._unknown, out=unknown[1:])
        texts = starts + np.minimum(sizes, prompt)
        inside = texts[text] + number * step
        known = content - (unknown[texts + content] - unknown[texts])
        return Tokens(
            ids=ids,
            bounds=bounds,
            text=text,
            content=taken.astype(np.int32),
            truncated=np.zeros(len(sizes), np.bool_) if self._chunk else content > room,
            empty=known == 0,
            read=int(taken.sum()),
            unknown=int((unknown[inside + taken] - unknown[inside]).sum()),
        )


def open_tokenizer(folder: Path, *, lower_case: bool = False) -> Any:
    """Load the tokenizer of a folder as transformers does.

    Parameters
    ----------
    folder : Path
        Has ``tokenizer.json``, and possibly ``tokenizer_config.json``.
    lower_case : bool
        ``do_lower_case`` of sentence-transformers: convert texts to lower case first.

    Returns
    -------
    tokenizers.Tokenizer

    Raises
    ------
    ConfigError
        If there is no ``tokenizer.json`` or it cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ConfigError(
            f"{path} is missing",
            where="embed.model",
            hint="Save it with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(FOLDER).",
        )
    tokenizer = read_tokenizer(path)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    _follow_settings(tokenizer, read_object(folder / "tokenizer_config.json"))
    if lower_case:
        lower(tokenizer)
    return tokenizer


def lower(tokenizer: Any) -> None:
    """Make a tokenizer convert texts to lower case, unless it does already."""
    from tokenizers.normalizers import Lowercase, Sequence

    described = json.dumps(json.loads(tokenizer.to_str()).get("normalizer"))
    if '"Lowercase"' in described or '"lowercase": true' in described:
        return
    present = tokenizer.normalizer
    tokenizer.normalizer = Lowercase() if present is None else Sequence([Lowercase(), present])


def special_tokens(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the special tokens that a tokenizer adds before and after a text.

    Raises
    ------
    ConfigError
        If it does not only add tokens, or fails for any text, as without its vocabulary.
    """
    with tokenizer_errors():
        plain = tokenizer.encode(_PROBE, add_special_tokens=False).ids
        whole = tokenizer.encode(_PROBE, add_special_tokens=True).ids
    for at in range(len(whole) - len(plain) + 1):
        if whole[at : at + len(plain)] == plain:
            return tuple(whole[:at]), tuple(whole[at + len(plain) :])
    raise ConfigError(
        "the tokenizer changes the tokens of a text when it adds its special ones",
        where="embed.model",
        hint="Use a tokenizer whose special tokens stand before and after the text.",
    )


def unknown_token(tokenizer: Any) -> int | None:
    """Return the id of the unknown token, or None if there is none."""
    if hasattr(tokenizer.model, "unk_token"):
        token = tokenizer.model.unk_token
        return None if token is None else tokenizer.token_to_id(token)
    # A Unigram model names the index in its vocabulary.
    return json.loads(tokenizer.to_str())["model"].get("unk_id")


def _follow_settings(tokenizer: Any, settings: Mapping[str, Any]) -> None:
    """Apply the settings of ``tokenizer_config.json`` on lower case and on the first and last token."""
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.processors import TemplateProcessing

    if isinstance(tokenizer.normalizer, BertNormalizer) and isinstance(settings.get("do_lower_case"), bool):
        tokenizer.normalizer.lowercase = settings["do_lower_case"]
    before, after = special_tokens(tokenizer)
    # A tokenizer that adds special tokens by itself keeps them.
    first, last = (
        () if before or after or token is None else (token,)
        for token in (_token(tokenizer, settings, "bos_token"), _token(tokenizer, settings, "eos_token"))
    )
    if first or last:
        names = [*(name for name, _ in first), "$A", *(name for name, _ in last)]
        tokenizer.post_processor = TemplateProcessing(single=names, special_tokens=[*first, *last])


def _token(tokenizer: Any, settings: Mapping[str, Any], name: str) -> tuple[str, int] | None:
    """Return a special token that is to be added, with its id."""
    token = settings.get(name)
    token = token.get("content") if is_mapping(token) else token
    if not settings.get(f"add_{name}") or not isinstance(token, str):
        return None
    number = tokenizer.token_to_id(token)
    return None if number is None else (token, number)
