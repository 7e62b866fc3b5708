"""When each word of a transcript was said, by the CTC log probabilities that it was read off. No torch: the server aligns too."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwise.errors import InputError
from headwise_speech.text import SPACE, Vocabulary

_BLANK = 0
_NEVER = -np.inf

_Tokens = npt.NDArray[np.int64]  # [states]: every token, with a blank before and after it
_Heard = npt.NDArray[np.float64]  # [frames, states]


class WordFrames(NamedTuple):
    """A word and its frames, from the first of its first token to the last of its last one."""

    word: str
    first: int
    end: int  # one past the last
    heard: float  # 0 to 1, the geometric mean over its tokens of how probable each was in its best frame


def word_frames(log_probs: npt.NDArray[np.floating[Any]], text: str, vocabulary: Vocabulary) -> list[WordFrames]:
    """The frames of each word in the likeliest alignment of a text (Graves et al. 2006, section 4.1, with max for sum).

    Between words and at the edges any number of blanks and spaces may stand, since decoders drop spaces that say nothing:
    silence is not stretched into a word. Of alignments that are equally likely, the one that moves on earliest. Time and
    memory grow with frames x tokens.

    Args:
        log_probs: [frames, vocab], of real frames only.
        text: words parted by single spaces, as decoders write them.
        vocabulary: its tokens.

    Raises:
        InputError: the text has what the vocabulary lacks, or has no alignment: it needs a frame for each token and one more
            between two alike.
    """
    words = text.split()
    if not words:
        return []
    spelled = [vocabulary.encode(word) for word in words]
    states, firsts = _states(spelled, vocabulary)
    heard = _heard(log_probs, states, vocabulary.space)
    path = _likeliest(heard, states)
    if path is None:
        raise InputError(
            f"text of {len(states) // 2} tokens, {text[:40]!r}: it has no alignment to {len(log_probs)} frames; "
            "it is too long for the recording"
        )
    frames: list[WordFrames] = []
    for word, tokens, first in zip(words, spelled, firsts, strict=True):
        edges = np.searchsorted(path, np.arange(first, first + 2 * len(tokens)))
        best = [heard[start:end, first + 2 * at].max() for at, (start, end) in enumerate(edges.reshape(-1, 2))]
        frames.append(WordFrames(word, int(edges[0]), int(edges[-1]), float(np.exp(np.mean(best)))))
    return frames


def _states(spelled: list[list[int]], vocabulary: Vocabulary) -> tuple[_Tokens, list[int]]:
    """The tokens of a text with a blank before and after each, and the state of each word's first token."""
    tokens: list[int] = []
    firsts: list[int] = []
    for word in spelled:
        if tokens and vocabulary.space is not None and not vocabulary.tokens[word[0]].startswith(SPACE):
            tokens.append(vocabulary.space)
        firsts.append(2 * len(tokens) + 1)
        tokens += word
    states = np.full(2 * len(tokens) + 1, _BLANK)
    states[1::2] = tokens
    return states, firsts


def _heard(log_probs: npt.NDArray[np.floating[Any]], tokens: _Tokens, space: int | None) -> _Heard:
    heard = log_probs.astype(np.float64)[:, tokens]
    if space is None:
        return heard
    quiet = np.zeros(len(tokens), bool)  # blanks where a space would say nothing new
    quiet[[0, -1]] = True
    quiet[1:] |= tokens[:-1] == space
    quiet[:-1] |= tokens[1:] == space
    heard[:, quiet] = np.maximum(heard[:, quiet], log_probs[:, [space]])
    return heard


def _likeliest(heard: _Heard, tokens: _Tokens) -> npt.NDArray[np.int64] | None:
    frames, states = heard.shape
    if not frames:
        return None
    leaps = np.zeros(states, bool)  # over the blank before it
    leaps[2:] = (tokens[2:] != _BLANK) & (tokens[2:] != tokens[:-2])
    score = np.full(states, _NEVER)
    score[:2] = heard[0, :2]
    back = np.zeros((frames, states), np.int8)  # how many states the best way came over
    ways = np.full((3, states), _NEVER)
    for frame in range(1, frames):
        ways[0], ways[1, 1:] = score, score[:-1]
        ways[2, 2:] = np.where(leaps[2:], score[:-2], _NEVER)
        back[frame] = ways.argmax(0)
        score = ways.max(0) + heard[frame]
    state = states - 1 if score[-1] >= score[-2] else states - 2
    if score[state] == _NEVER:
        return None
    path = np.empty(frames, np.int64)
    for frame in range(frames - 1, -1, -1):
        path[frame] = state
        state -= int(back[frame, state])
    return path
