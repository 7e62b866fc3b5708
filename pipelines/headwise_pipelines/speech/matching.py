"""Which characters of another vocabulary are the same."""

from headwise.training.initialise import Rows
from headwise_pipelines.start import Start
from headwise_speech.text import Vocabulary


def rows(start: Start, vocabulary: Vocabulary) -> dict[str, Rows]:
    """How the tables of a recogniser are matched with those of the run that it starts from; the blank is a character, too."""
    earlier = Vocabulary.load(start.tables / "vocabulary.json")
    matched = Rows.matching(vocabulary.tokens, earlier.tokens, "character")
    return dict.fromkeys(("head.weight", "head.bias", "decoder.embedding.weight"), matched)
