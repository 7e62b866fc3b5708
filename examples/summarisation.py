"""Summarisation that copies (pointer-generator, See et al. 2017): names that the model has never seen reach the summary.

At every word of the summary the model decides how far to write a word that it knows, and how far to point at a word of the
text, by the additive attention of Bahdanau et al. All names are made up and in no vocabulary: to the model they are one and
the same unknown word. It can only understand who did what, and point at the name that stands there.
"""

import argparse
import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from headwise.attention import Additive, Attention, Coordinates, View, causal, rows, same_segment
from headwise.transformer import Written, beam_search, encoder_decoder

WIDTH, LONGEST = 64, 8  # of the tokens; words of a summary, its end included
# Facts, each said in one of several ways, and what they come to; * and + and ~ stand for names.
STORIES = [
    (["* won the race | the race was won by *", "it was held in + | it took place in +"], "* wins race in +"),
    (["* bought the firm of + | the firm of + was sold to *"], "* takes over +"),
    (["the people of + chose * as their mayor | * was elected in +"], "* is new mayor of +"),
    (["* and + were married | there was a wedding of * and +", "they met in ~ | they live in ~"], "* and + marry in ~"),
]
ASIDES = ["~ could not come", "the weather in ~ was fine", "~ of ~ was not pleased", "many had come from ~", "~ sang"]
SYLLABLES = "ka ro mi ten bal su dor ve lin gar po ni shu tal em"


class Text(NamedTuple):
    """A text as sentences, and its summary."""

    sentences: list[list[str]]
    summary: list[str]


def text(draw: random.Random) -> Text:
    """A story told with made-up names, among asides that name others."""

    def name() -> str:
        return "".join(draw.choice(SYLLABLES.split()) for _ in range(draw.randint(2, 3))).capitalize()

    facts, summary = draw.choice(STORIES)
    names = {sign: name() for sign in "*+~"}
    told = [[names.get(word, word) for word in draw.choice(fact.split(" | ")).split()] for fact in facts]
    asides = [[name() if word == "~" else word for word in aside.split()] for aside in draw.sample(ASIDES, 3)]
    for aside in asides:
        told.insert(draw.randint(0, len(told)), aside)
    return Text([[*sentence, "."] for sentence in told], [names.get(word, word) for word in summary.split()])


KNOWN = {word for facts, summary in STORIES for said in [*facts, summary] for word in said.split()}
KNOWN |= {word for aside in ASIDES for word in aside.split()}
VOCABULARY = ["<end>", "<begin>", ".", *sorted(KNOWN - set("*+~|")), "<unknown>"]
END, BEGIN, UNKNOWN = 0, 1, len(VOCABULARY) - 1
NAMES = 12  # unknown words of a text at most; the first has the number after UNKNOWN, and so on


class Source(NamedTuple):
    """Texts as the writer meets them: encoded words, where they stand, and their numbers, one for each unknown word too."""

    tokens: Tensor
    of: Coordinates
    ids: Tensor


class Summariser(nn.Module):
    """A Transformer whose writer may also point."""

    def __init__(self) -> None:
        super().__init__()
        model = encoder_decoder(len(VOCABULARY), width=WIDTH, blocks=2, heads=4, hidden=2 * WIDTH, dropout=0.0)
        self.encoder, self.writer = model.encoder, model.writer
        self.pointer, self.gate = Attention(WIDTH, 1, kernel=Additive(WIDTH)), nn.Linear(WIDTH, 1)

    def read(self, ids: Tensor, lengths: Tensor) -> Source:
        """The texts, read."""
        of = rows(lengths, ids.shape[1])
        return Source(self.encoder(self._embed(ids, of), View(of, same_segment)), of, ids)

    def forward(self, source: Source, words: Tensor) -> tuple[Tensor, Tensor]:
        """After each word of the summary: log-probabilities of the next, and how far it is which word of the text."""
        at = rows(torch.full((len(words),), words.shape[1]), words.shape[1])
        across = View(at, same_segment, source.of)
        hidden = self.writer.decoder(self._embed(words, at), View(at, causal), source.tokens, across)
        return self._next(hidden, across, source)

    def step(self, words: Tensor, past: tuple[Written, Source]) -> tuple[Tensor, tuple[Written, Source]]:
        """The same word by word, as `beam_search` wants it."""
        (length, states), source = past
        at = rows(torch.ones_like(length), 1, start=length)
        hidden, states = self.writer.decoder.step(self._embed(words[:, None], at), at, causal, states)
        log_probs, _ = self._next(hidden, View(at, same_segment, source.of), source)
        return log_probs[:, 0], (Written(length + 1, states), source)

    def _next(self, hidden: Tensor, across: View, source: Source) -> tuple[Tensor, Tensor]:
        writes = self.gate(hidden).sigmoid()
        pointed = (1 - writes) * self.pointer.weights(hidden, across, source.tokens).squeeze(1)
        written = F.pad(writes * self.writer.logits(hidden).softmax(-1), (0, NAMES))
        return written.scatter_add(2, source.ids[:, None].expand_as(pointed), pointed).clamp(min=1e-9).log(), pointed

    def _embed(self, ids: Tensor, at: Coordinates) -> Tensor:
        return self.writer.embed(ids.clamp(max=UNKNOWN), at)


def numbered(texts: list[Text]) -> tuple[Tensor, Tensor, Tensor, list[list[str]]]:
    """Word numbers of texts and of summaries from <begin> to <end>, lengths of the texts, and what the numbers stand for."""
    sources, summaries, meanings = [], [], []
    for sentences, summary in texts:
        words = [word for sentence in sentences for word in sentence]
        meaning = VOCABULARY + list(dict.fromkeys(word for word in words if word not in KNOWN | {"."}))
        sources.append(torch.tensor([meaning.index(word) for word in words]))
        summaries.append(torch.tensor([meaning.index(word) for word in ["<begin>", *summary, "<end>"]]))
        meanings.append(meaning)
    lengths = torch.tensor([len(ids) for ids in sources])
    padded = [pad_sequence(ids, batch_first=True, padding_value=END) for ids in (sources, summaries)]
    return padded[0], padded[1], lengths, meanings


def train(model: Summariser, steps: int) -> None:
    """Teach the model to guess every next word of a summary from the text and the words before it."""
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
    draw = random.Random(0)
    for step in range(1, steps + 1):
        ids, summary, lengths, _ = numbered([text(draw) for _ in range(32)])
        log_probs, _ = model(model.read(ids, lengths), summary[:, :-1])
        real = summary[:, :-1] != END
        loss = F.nll_loss(log_probs[real], summary[:, 1:][real])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step:4}  loss {loss.item():.3f}")


@torch.no_grad()
def summarise(model: Summariser, texts: list[Text]) -> list[list[str]]:
    """The best summary of each text that a search with four beams finds."""
    ids, _, lengths, meanings = numbered(texts)
    source = model.read(ids, lengths)
    start = model.writer.remember(source.tokens, source.of, LONGEST), source
    found = beam_search(model.step, start, torch.full_like(lengths, BEGIN), end=END, longest=LONGEST)
    best = zip(found.tokens[:, 0].tolist(), found.lengths[:, 0].tolist(), meanings, strict=True)
    return [[meaning[token] for token in tokens[:length]] for tokens, length, meaning in best]


def picture(model: Summariser, told: Text, summary: list[str]) -> Figure:
    """The summary over its text; a line joins each copied word to where it was pointed at."""
    ids, _, lengths, (meaning,) = numbered([told])
    words = torch.tensor([[meaning.index(word) for word in ["<begin>", *summary[:-1]]]])
    with torch.no_grad():
        pointed = model(model.read(ids, lengths), words)[1][0]
    figure = Figure(figsize=(8.5, 0.6 * len(told.sentences) + 2), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    axes.set_xlim(-1, 46)
    axes.set_ylim(len(told.sentences) - 0.5, -3.2)

    def write(line: list[str], row: float, shares: list[float], size: float) -> list[tuple[float, float]]:
        column, middles = 0.0, []
        for word, share in zip(line, shares, strict=True):
            box = {
                "boxstyle": "round,pad=0.25",
                "edgecolor": "none",
                "facecolor": (1, 1 - 0.35 * share, 1 - 0.8 * share),
            }
            middles.append((column + size * len(word) / 2, row))
            font: dict[str, Any] = {"ha": "center", "va": "center", "family": "monospace", "fontsize": 13 * size}
            axes.text(*middles[-1], word, bbox=box, **font)
            column += size * (len(word) + 1.5)
        return middles

    shares = pointed.max(0).values.tolist()
    there: list[tuple[float, float]] = []  # the middle of every word of the text
    for row, sentence in enumerate(told.sentences):
        there += write(sentence, row, shares[len(there) : len(there) + len(sentence)], 1.0)
    here = write(summary, -2.5, pointed.sum(1).tolist(), 1.4)
    down = torch.linspace(0, 1, 50)
    for (x, y), weights in zip(here, pointed, strict=True):
        to_x, to_y = there[int(weights.argmax())]
        bend = down**2 * (3 - 2 * down)
        (line,) = axes.plot(x + bend * (to_x - x), y + down * (to_y - y), color="tab:orange", linewidth=2, zorder=0)
        line.set_alpha(float(weights.sum()))
    return figure


def main() -> None:
    """Train, measure on new texts what is right and which names were copied right, show two and draw the last one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--out", type=Path, default=Path("summarisation.png"), help="the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for tensors this small, more threads only wait for each other
    torch.manual_seed(0)

    model = Summariser()
    train(model, options.steps)

    draw = random.Random(1)
    texts = [text(draw) for _ in range(300)]
    summaries = summarise(model, texts)
    pairs = [
        pair for ours, told in zip(summaries, texts, strict=True) for pair in zip(ours, told.summary, strict=False)
    ]
    names = sum(word not in KNOWN for told in texts for word in told.summary)
    print(
        f"summaries without a mistake: {sum(a == b.summary for a, b in zip(summaries, texts, strict=True)) / 300:.1%}"
    )
    print(f"names copied to their place, all unknown: {sum(a == b not in KNOWN for a, b in pairs) / names:.1%}")
    for told, ours in zip(texts[:2], summaries, strict=False):
        print(f"{' '.join(word for sentence in told.sentences for word in sentence)}\n    -> {' '.join(ours)}")
    picture(model, texts[1], summaries[1]).savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
