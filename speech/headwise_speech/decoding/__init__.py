"""From CTC log probabilities to text: greedy, or a beam with words, a language model and hot words. No torch: the server decodes.

Token 0 is the blank. An alignment gives one token a frame; merging its repeats and then removing its blanks leaves its text
(Graves et al. 2006), and the probability of a text is the sum over all of its alignments.
"""

from headwise_speech.decoding.arpa import read_arpa, write_arpa
from headwise_speech.decoding.beam import PrefixBeam
from headwise_speech.decoding.decoder import Decoder, read_decoder
from headwise_speech.decoding.greedy import greedy
from headwise_speech.decoding.hotwords import HotWords, parse_hotwords, read_hotwords
from headwise_speech.decoding.hypothesis import Hypothesis
from headwise_speech.decoding.kneser_ney import kneser_ney
from headwise_speech.decoding.ngram import NGram

__all__ = [
    "Decoder",
    "HotWords",
    "Hypothesis",
    "NGram",
    "PrefixBeam",
    "greedy",
    "kneser_ney",
    "parse_hotwords",
    "read_arpa",
    "read_decoder",
    "read_hotwords",
    "write_arpa",
]
