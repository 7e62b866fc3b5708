"""Document classification with hierarchical attention (Yang et al. 2016): how many stars a review gives.

Words become sentences and sentences become a document, each by attention whose query is learned. A review speaks of many
things, well of some and badly of others, but only the sentence with "overall" decides; there, "not" turns the word after it
around. The model is told the stars alone. Does it find that sentence, and in it those words?
"""

import argparse
import random
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Attention, Pooling, Rotary, View, rows, same_segment, window
from headwise.transformer import Block, Encoder, FeedForward

WIDTH = 48
JUDGEMENTS = [  # of one star to five
    ["awful", "terrible", "dreadful"],
    ["poor", "weak", "dull"],
    ["average", "ordinary", "plain"],
    ["good", "nice", "pleasant"],
    ["superb", "wonderful", "brilliant"],
]
ASPECTS = ["room", "food", "staff", "pool", "view", "bar", "bed", "music", "garden", "price"]
OPENINGS = ["i thought", "we found", "to my mind", "they say that", "as for me", "you see"]
TIMES = ["on most days", "this time", "as i recall", "in june", "after all"]
SIGNALS = {
    "overall",
    "not",
    *(word for words in JUDGEMENTS for word in words),
}  # what decides, in the deciding sentence
SENTENCES, WORDS = 6, 14  # of the longest review and sentence


def review(draw: random.Random) -> tuple[list[list[str]], int, int]:
    """Sentences, which of them decides, and the stars, from 0 for one to 4 for five."""
    deciding, stars = draw.randrange(count := draw.randint(3, SENTENCES)), 0
    sentences = []
    for number in range(count):
        value, turned = draw.randrange(5), draw.random() < 0.4
        about = "overall this hotel" if number == deciding else f"the {draw.choice(ASPECTS)}"
        judged = f"{'was not' if turned else 'was'} {draw.choice(JUDGEMENTS[value])}"
        sentences.append(f"{draw.choice(TIMES)} {draw.choice(OPENINGS)} {about} {judged}".split())
        if number == deciding:
            stars = 4 - value if turned else value
    return sentences, deciding, stars


VOCABULARY = sorted({word for seed in range(500) for sentence in review(random.Random(seed))[0] for word in sentence})
ID = {word: number for number, word in enumerate(VOCABULARY)}


def batch(reviews: list[list[list[str]]]) -> tuple[Tensor, Tensor]:
    """Word numbers [batch, sentences, words] and how many words each sentence has, 0 where there is no sentence."""
    ids = torch.zeros(len(reviews), SENTENCES, WORDS, dtype=torch.long)
    lengths = torch.zeros(len(reviews), SENTENCES, dtype=torch.long)
    for number, sentences in enumerate(reviews):
        for place, words in enumerate(sentences):
            ids[number, place, : len(words)] = torch.tensor([ID[word] for word in words])
            lengths[number, place] = len(words)
    return ids, lengths


def encoder() -> Encoder:
    """One block."""
    attention = Attention(WIDTH, 4, rotary=Rotary(WIDTH // 4))
    return Encoder([Block(WIDTH, attention, FeedForward(WIDTH, 2 * WIDTH, nn.GELU()))], WIDTH)


class Reader(nn.Module):
    """Words -> sentences -> document -> stars."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), WIDTH)
        self.word_encoder, self.word_pooling = encoder(), Pooling(WIDTH)
        self.sentence_encoder, self.sentence_pooling = encoder(), Pooling(WIDTH)
        self.stars = nn.Linear(WIDTH, 5)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [batch, 5], and how much each word [batch, sentences, words] and sentence [batch, sentences] counted."""
        at = rows(lengths.flatten(), ids.shape[2])
        near = View(
            at, same_segment & window(1)
        )  # a word hears the one before it: what is looked at is what is said there
        words = self.word_encoder(self.embedding(ids.flatten(0, 1)), near)
        real = at.segment > 0
        sentences = self.word_pooling(words, real).unflatten(0, lengths.shape)

        of = rows((lengths > 0).sum(1), lengths.shape[1])
        sentences = self.sentence_encoder(sentences, View(of, same_segment))
        document = self.sentence_pooling(sentences, of.segment > 0)
        word_weights = self.word_pooling.weights(words, real).unflatten(0, lengths.shape)
        return self.stars(document), word_weights, self.sentence_pooling.weights(sentences, of.segment > 0)


def train(model: Reader, steps: int) -> None:
    """Teach the model the stars."""
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    draw = random.Random(0)
    for step in range(1, steps + 1):
        reviews, _, stars = zip(*(review(draw) for _ in range(64)), strict=True)
        loss = F.cross_entropy(model(*batch(list(reviews)))[0], torch.tensor(stars))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step:4}  loss {loss.item():.3f}")


def picture(sentences: list[list[str]], words: Tensor, weights: Tensor, title: str) -> Figure:
    """The review: a sentence the bluer the more it counts, a word the redder the more it counts in its sentence."""
    figure = Figure(figsize=(9.5, 0.45 * len(sentences) + 0.7), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set_title(title, loc="left", fontsize=13)
    axes.set_xlim(-6, 60)
    axes.set_ylim(len(sentences) - 0.4, -0.6)

    def write(column: float, row: int, text: str, share: float, dark: tuple[float, float, float]) -> None:
        paper = tuple(1 - share * (1 - channel) for channel in dark)
        box = {"boxstyle": "round,pad=0.3", "edgecolor": "none", "facecolor": paper}
        axes.text(column, row, text, va="center", family="monospace", fontsize=12, bbox=box)

    for row, sentence in enumerate(sentences):
        write(-5, row, f"{weights[row]:4.0%}", float(weights[row]), (0.35, 0.6, 0.95))
        column = 0.0
        for word, weight in zip(sentence, words[row].tolist(), strict=False):
            write(column, row, word, weight, (0.95, 0.3, 0.25))
            column += len(word) + 1.5
    return figure


def main() -> None:
    """Train, measure on new reviews what is right and where the model looked, show two of them and draw a long one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="of training")
    parser.add_argument("--out", type=Path, default=Path("document_classification.png"), help="the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for tensors this small, more threads only wait for each other
    torch.manual_seed(0)

    model = Reader()
    train(model, options.steps)

    draw = random.Random(1)
    reviews, deciding, stars = zip(*(review(draw) for _ in range(500)), strict=True)
    with torch.no_grad():
        logits, words, sentences = model(*batch(list(reviews)))
    guesses, looked = logits.argmax(1).tolist(), sentences.argmax(1).tolist()
    tops = [reviews[n][deciding[n]][int(words[n, deciding[n]].argmax())] for n in range(500)]

    def percent(hits: list[bool]) -> str:
        return f"{sum(hits) / len(hits):.1%}"

    print("stars right (20 % by chance):", percent([a == b for a, b in zip(guesses, stars, strict=True)]))
    print("deciding sentence looked at most:", percent([a == b for a, b in zip(looked, deciding, strict=True)]))
    print("in it a deciding word looked at most:", percent([word in SIGNALS for word in tops]))
    for n in (0, 1):
        place = looked[n]
        shares = sorted(zip(words[n, place].tolist(), reviews[n][place], strict=False), reverse=True)[:3]
        said = ", ".join(f"{word} {share:.0%}" for share, word in shares)
        print(f"{stars[n] + 1} stars, said {guesses[n] + 1}: {' '.join(reviews[n][place])}\n    looked at {said}")
    n = max(range(500), key=lambda n: len(reviews[n]))
    title = f"{stars[n] + 1} stars, read as {guesses[n] + 1}. Blue: how much a sentence counts; red: how much a word does in it"
    picture(reviews[n], words[n], sentences[n], title).savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
