"""When each word of a transcript was said, by the CTC log probabilities that it was read off. No torch: the server aligns too."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headwise_speech.text import SPACE, Vocabulary

_BLANK = 0
_NEVER = -np.inf

_Tokens = npt.NDArray[np.int64]  # [states]: every character, with a blank before and after it
_Heard = npt.NDArray[np.float64]  # [frames, states]


class WordFrames(NamedTuple):
    """A word and its frames, from the first of its first character to the last of its last one."""

    word: str
    first: int
    end: int  # one past the last


def word_frames(log_probs: npt.NDArray[np.floating[Any]], text: str, vocabulary: Vocabulary) -> list[WordFrames]:
    """The frames of each word in the likeliest alignment of a text (Graves et al. 2006, section 4.1, with max for sum).

    Between words and at the edges any number of blanks and spaces may stand, since decoders drop spaces that say nothing:
    silence is not stretched into a word. Of alignments that are equally likely, the one that moves on earliest. Time and
    memory grow with frames x characters.

    Args:
        log_probs: [frames, vocab], of real frames only.
        text: words parted by single spaces, as decoders write them.
        vocabulary: its characters.

    Raises:
        ValueError: the text holds a character that the vocabulary lacks, or has no alignment: it needs a frame for each character
            and one more between two alike.
    """
    words = text.split()
    if not words:
        return []
    tokens = _tokens(SPACE.join(words), vocabulary)
    path = _likeliest(_heard(log_probs, tokens, vocabulary.space), tokens)
    if path is None:
        raise ValueError(f"text of {len(tokens) // 2} characters: it has no alignment to {len(log_probs)} frames")
    frames: list[WordFrames] = []
    state = 1  # of the word's first character
    for word in words:
        last = state + 2 * (len(word) - 1)
        frames.append(WordFrames(word, int(np.searchsorted(path, state)), int(np.searchsorted(path, last, "right"))))
        state = last + 4  # over the space
    return frames


def _tokens(text: str, vocabulary: Vocabulary) -> _Tokens:
    numbers = {token: number for number, token in enumerate(vocabulary.tokens)}
    if unknown := sorted(set(text) - numbers.keys()):
        raise ValueError(f"text: {unknown[0]!r} is not among the recogniser's characters")
    tokens = np.full(2 * len(text) + 1, _BLANK)
    tokens[1::2] = [numbers[character] for character in text]
    return tokens


def _heard(log_probs: npt.NDArray[np.floating[Any]], tokens: _Tokens, space: int) -> _Heard:
    heard = log_probs.astype(np.float64)[:, tokens]
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
