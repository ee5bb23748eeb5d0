"""Which words are names of persons: given names, and what follows them as a family name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentscale.labelers.keyphrases.stop_words import listed_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from latentscale.labelers.keyphrases.words import Words

_TITLES = frozenset({"mr", "mrs", "ms", "dr", "sir", "lady", "miss", "prof"})
# A word is a family name if it follows a given name or a title in so large a part of its places, and so often.
_FOLLOWS, _AT_LEAST = 0.35, 2
# A word is part of a person's name if it is before an address of mail in so large a part of its places.
_SENDS = 0.5


def person_words(forms: NDArray[np.int32], words: Words, senders: Mapping[str, int]) -> NDArray[np.bool_]:
    """Return which words are names of persons.

    Names before addresses of mail are such. A given name counts where the corpus mostly writes it with a capital, so
    that texts in lower case have none.

    Parameters
    ----------
    forms : int32 ndarray, shape (n_tokens,)
        The written forms of all documents, one after the other.
    words : Words
    senders : mapping of str to int
        How often a word, case-folded, was in a name before an address of mail.

    Returns
    -------
    bool ndarray, shape (n_words,)
    """
    given_names = listed_words("given_names.txt")
    given = np.array([words.text(word) in given_names for word in range(len(words.named))]) & words.named
    before = given | np.array([words.text(word) in _TITLES for word in range(len(words.named))])
    sends = np.array([senders.get(words.text(word), 0) for word in range(len(words.named))])
    if not before.any() and not sends.any():
        return given
    stream = words.of_form[forms]
    follows = np.flatnonzero(before[stream[:-1]]) + 1
    after = np.bincount(stream[follows], minlength=len(given))
    total = np.bincount(stream, minlength=len(given))
    family = (after >= np.maximum(_AT_LEAST, _FOLLOWS * total)) & words.named & words.carries
    sender = (sends >= np.maximum(_AT_LEAST, _SENDS * total)) & words.carries
    return given | family | sender
