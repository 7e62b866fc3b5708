"""The text of the likeliest alignment."""

import numpy as np

from headwise_speech.decoding.hypothesis import Hypothesis, LogProbs, real_rows
from headwise_speech.text import Vocabulary


def greedy(log_probs: LogProbs, vocabulary: Vocabulary, frames: int | None = None) -> Hypothesis:
    """The text of the likeliest alignment, by the likeliest token of every frame (Graves et al. 2006).

    Args:
        log_probs: [frames, vocab].
        vocabulary: its tokens.
        frames: how many of the rows are real, the rest being padding; all by default.
    """
    rows = real_rows(log_probs, len(vocabulary), frames)
    best = rows.argmax(axis=1)
    changed = np.flatnonzero(np.diff(best, prepend=-1))
    score = float(rows[np.arange(len(rows)), best].sum(dtype=np.float64))
    return Hypothesis(vocabulary.decode(best[changed].tolist()), score, score)
