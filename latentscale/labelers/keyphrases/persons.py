"""Detect names of persons: given names, and the family names that follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from latentscale.labelers.keyphrases.stop_words import listed_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from latentscale.labelers.keyphrases.words import Words

_TITLES = frozenset({"mr", "mrs", "ms", "dr", "sir", "lady", "miss", "prof"})
# Minimum share and number of occurrences that follow a given name or a title, for a family name.
_FOLLOWS, _AT_LEAST = 0.35, 2
# Minimum share of occurrences before an email address, for a part of a person's name.
_SENDS = 0.5


def person_words(forms: NDArray[np.int32], words: Words, senders: Mapping[str, int]) -> NDArray[np.bool_]:
    """Return which words are names of persons.

    Includes names before email addresses. A given name counts only if the corpus usually capitalises it, so texts in
    lower case have none.

    Parameters
    ----------
    forms : int32 ndarray, shape (n_tokens,)
        Ids of the written forms of all documents, concatenated.
    words : Words
    senders : mapping of str to int
        Number of occurrences of each case-folded word in names before email addresses.

    Returns
    -------
    bool ndarray, shape (n_words,)
    """
    given_names = listed_words("given_names.txt")
    is_given_name = np.array([words.text(word) in given_names for word in range(len(words.named))]) & words.named
    precedes_family_name = is_given_name | np.array([words.text(word) in _TITLES for word in range(len(words.named))])
    sender_counts = np.array([senders.get(words.text(word), 0) for word in range(len(words.named))])
    if not precedes_family_name.any() and not sender_counts.any():
        return is_given_name
    stream = words.of_form[forms]
    positions_after = np.flatnonzero(precedes_family_name[stream[:-1]]) + 1
    counts_after = np.bincount(stream[positions_after], minlength=len(is_given_name))
    total = np.bincount(stream, minlength=len(is_given_name))
    is_family_name = (counts_after >= np.maximum(_AT_LEAST, _FOLLOWS * total)) & words.named & words.can_start_or_end
    is_sender_name = (sender_counts >= np.maximum(_AT_LEAST, _SENDS * total)) & words.can_start_or_end
    return is_given_name | is_family_name | is_sender_name
