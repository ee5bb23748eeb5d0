"""Tokens of many texts with the library ``tokenizers`` alone: cut to a limit or into windows, as arrays.

The tokenizer runs without its own truncation, in threads of its own and without Python's lock; cutting, windows and
special tokens are laid out by NumPy, for all texts of a call at once. The ids equal those that a tokenizer of
transformers gives with ``truncation=True, max_length=limit``.
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
from latentscale.embedders.wordpieces import WordPieces
from latentscale.errors import ConfigError

# A call of the tokenizer holds about a hundred bytes for each token of its texts.
_TEXTS_AT_ONCE = 4_096
# Texts of several kinds that may follow a prompt.
_FOLLOWING = ("a", "The", "9", "(", "字")
_CHARACTERS_AT_ONCE = 4_000_000
_PROBE = "a b"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """The tokens of texts, in windows: one for each text, or several where a long text is chunked.

    Attributes
    ----------
    ids : int32 ndarray
        Tokens of all windows, special ones and prompts included, one window after the other.
    bounds : int64 ndarray, shape (n_windows + 1,)
        Window ``i`` has the tokens ``bounds[i]`` to ``bounds[i + 1]``.
    text : int64 ndarray, shape (n_windows,)
        The text of each window, ascending.
    content : int32 ndarray, shape (n_windows,)
        Tokens of each window without special ones and prompt: its weight in the mean of a text.
    truncated, empty : bool ndarray, shape (n_texts,)
        Texts of which tokens were left out, and texts without any token that the model knows. An empty text has a
        window too.
    read, unknown : int
        Tokens of all windows without special ones and prompts, and those of them that the model does not know.
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
        """Tokens of each window, special ones included (int32, shape (n_windows,))."""
        return np.diff(self.bounds).astype(np.int32)


class TextTokenizer:
    """Turns texts into tokens.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        It is changed: its own truncation and padding are switched off.
    limit : int
        Most tokens of a window, special ones and prompt included.
    prompt : str
        Stands before each text.
    long : {"truncate", "chunk"}
        Cut a longer text, or spread it over windows, each with the prompt.
    overlap : int
        Tokens that a window shares with the one before it.

    Raises
    ------
    ConfigError
        If the limit leaves no room for a text, or the overlap is not smaller than that room.
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
        """Tokens at the start of each window that a pooling without the prompt leaves out.

        Special ones and those of the prompt by itself, as sentence-transformers counts them.
        """
        return len(self.before) + len(self._prompt_alone)

    def _prompt_tokens(self, prompt: str) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """The tokens of a prompt by itself, and those that it keeps whatever text follows.

        Where a prompt ends in a space, a tokenizer of SentencePiece makes one token of that space and the text's first
        word: counted as the prompt's, a text of one word would be empty.
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
        """Whether the tokens of each text are those of the prompt by itself (bool, shape of ``sizes``)."""
        alone = len(self._prompt_alone)
        found = sizes == alone
        starts = (np.cumsum(sizes) - sizes)[found]
        same = raw[starts[:, None] + np.arange(alone)] == self._prompt_alone
        found[found] = same.all(axis=1)
        return found

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Tokenise ``texts``, in order.

        Raises
        ------
        ConfigError
            If the tokenizer gives up on a text.
        """
        found = [self._pieces.encode(some) for some in self._portions(texts)]
        ids = np.concatenate([one[0] for one in found]) if found else np.empty(0, np.int32)
        sizes = np.concatenate([one[1] for one in found]) if found else np.empty(0, np.int64)
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
        """Cut the tokens of texts, and lay out their windows with special tokens and prompts."""
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
        # The first window has the prompt among its tokens, as they came; it is set before the others.
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
        # Unknown tokens before each place, so that those of any stretch are a difference.
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
    """Open the tokenizer of a folder as transformers would.

    Parameters
    ----------
    folder : Path
        With ``tokenizer.json``, and ``tokenizer_config.json`` where there is one.
    lower_case : bool
        ``do_lower_case`` of sentence-transformers: texts are lowered first.

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
    """Let a tokenizer lower its texts first, unless it does already."""
    from tokenizers.normalizers import Lowercase, Sequence

    described = json.dumps(json.loads(tokenizer.to_str()).get("normalizer"))
    if '"Lowercase"' in described or '"lowercase": true' in described:
        return
    present = tokenizer.normalizer
    tokenizer.normalizer = Lowercase() if present is None else Sequence([Lowercase(), present])


def special_tokens(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens that a tokenizer puts before and after a text.

    Raises
    ------
    ConfigError
        If it does more to a text than that, or cannot read one, as without its vocabulary.
    """
    try:
        plain = tokenizer.encode(_PROBE, add_special_tokens=False).ids
        whole = tokenizer.encode(_PROBE, add_special_tokens=True).ids
    except Exception as error:  # tokenizers raises no narrower one
        raise ConfigError(
            f"the tokenizer cannot read a text: {error}",
            where="embed.model",
            hint="Files of its vocabulary may be missing. Fetch the model anew, or save its tokenizer with "
            "save_pretrained.",
        ) from error
    for at in range(len(whole) - len(plain) + 1):
        if whole[at : at + len(plain)] == plain:
            return tuple(whole[:at]), tuple(whole[at + len(plain) :])
    raise ConfigError(
        "the tokenizer changes the tokens of a text when it adds its special ones",
        where="embed.model",
        hint="Use a tokenizer whose special tokens stand before and after the text.",
    )


def unknown_token(tokenizer: Any) -> int | None:
    """The id of the token for what a model does not know; None where there is none."""
    if hasattr(tokenizer.model, "unk_token"):
        token = tokenizer.model.unk_token
        return None if token is None else tokenizer.token_to_id(token)
    # A Unigram model names the index in its vocabulary.
    return json.loads(tokenizer.to_str())["model"].get("unk_id")


def _follow_settings(tokenizer: Any, settings: Mapping[str, Any]) -> None:
    """Apply what ``tokenizer_config.json`` has on letters and on the first and last token."""
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.processors import TemplateProcessing

    if isinstance(tokenizer.normalizer, BertNormalizer) and isinstance(settings.get("do_lower_case"), bool):
        tokenizer.normalizer.lowercase = settings["do_lower_case"]
    before, after = special_tokens(tokenizer)
    # A tokenizer with special tokens of its own keeps them as they are.
    first, last = (
        () if before or after or token is None else (token,)
        for token in (_token(tokenizer, settings, "bos_token"), _token(tokenizer, settings, "eos_token"))
    )
    if first or last:
        names = [*(name for name, _ in first), "$A", *(name for name, _ in last)]
        tokenizer.post_processor = TemplateProcessing(single=names, special_tokens=[*first, *last])


def _token(tokenizer: Any, settings: Mapping[str, Any], name: str) -> tuple[str, int] | None:
    """A special token that is to be added, with its number."""
    token = settings.get(name)
    token = token.get("content") if is_mapping(token) else token
    if not settings.get(f"add_{name}") or not isinstance(token, str):
        return None
    number = tokenizer.token_to_id(token)
    return None if number is None else (token, number)
