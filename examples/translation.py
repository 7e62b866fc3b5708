"""Translation: an encoder-decoder Transformer (Vaswani et al. 2017) learns to turn English into Spanish.

    the girl buys two hundred forty one old red houses -> la niña compra doscientas cuarenta y una casas rojas viejas

Adjectives change places with their noun and with each other; adjectives, numbers and articles agree with a noun that
comes later, or came before. The model is asked for sentences with numbers that it has never seen, and writes with a beam.
"""

import argparse
import random
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from headwise.attention import Coordinates, rows
from headwise.transformer import Transformer, beam_search, encoder_decoder

LONGEST = 16  # words of a translation


def words(text: str) -> list[str]:
    """Its words, after an empty one, so that number 1 is the first."""
    return ["", *text.split()]


UNITS = words(
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
UNIDADES = words(
    "un@ dos tres cuatro cinco seis siete ocho nueve diez once doce trece catorce quince dieciséis diecisiete dieciocho "
    "diecinueve"
)
TENS = words("ten twenty thirty forty fifty sixty seventy eighty ninety")
DECENAS = words("diez veinte treinta cuarenta cincuenta sesenta setenta ochenta noventa")
VEINTI = words("veintiun@ veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho veintinueve")
CIENTOS = words(
    "ciento doscient@s trescient@s cuatrocient@s quinient@s seiscient@s setecient@s ochocient@s novecient@s"
)
SHORTENED = {"uno": "un", "veintiuno": "veintiún"}  # before a masculine noun
FEMININE = {"houses": "casas", "tables": "mesas", "flowers": "flores", "letters": "cartas"}
NOUNS = FEMININE | {"books": "libros", "trees": "árboles", "cars": "coches", "gardens": "jardines"}
ADJECTIVES = {"red": "roj@s", "old": "viej@s", "small": "pequeñ@s", "white": "blanc@s", "big": "grandes"}
SUBJECTS = {"the girl": "la niña", "the boy": "el niño", "the doctor": "el médico", "the queen": "la reina"}
VERBS = {"buys": "compra", "sells": "vende", "sees": "ve", "wants": "quiere", "draws": "dibuja"}
NUMBERS = {new: [n for n in range(2, 1000) if (n % 7 == 0) == new] for new in (True, False)}


def number(value: int) -> tuple[str, str]:
    """2..999 in English and in Spanish, where @ stands for the vowel of the gender."""
    hundreds, rest = divmod(value, 100)
    tens, units = divmod(rest, 10) if rest >= 20 else (0, rest)
    english = f"{UNITS[hundreds]} hundred" * (hundreds > 0) + f" {TENS[tens]} {UNITS[units]}"
    small = VEINTI[units] if tens == 2 and units else DECENAS[tens] + " y " * (tens > 0 < units) + UNIDADES[units]
    return english, "cien" if value == 100 else f"{CIENTOS[hundreds]} {small}"


def sentence(draw: random.Random, *, new: bool) -> tuple[list[str], list[str]]:
    """An English sentence and its translation; every seventh number is `new`, the others are there to train with."""
    subject, verb, noun = (draw.choice(list(words)) for words in (SUBJECTS, VERBS, NOUNS))
    adjectives = draw.sample(list(ADJECTIVES), draw.randint(0, 2))
    english, spanish = number(draw.choice(NUMBERS[new]))
    behind = [ADJECTIVES[adjective] for adjective in reversed(adjectives)]
    there = f"{SUBJECTS[subject]} {VERBS[verb]} {spanish} {NOUNS[noun]} {' '.join(behind)}".split()
    agreeing = [word.replace("@", "a" if noun in FEMININE else "o") for word in there]
    return [*subject.split(), verb, *english.split(), *adjectives, noun], [SHORTENED.get(w, w) for w in agreeing]


def vocabulary() -> list[str]:
    """All words of both languages; the first two mark where a translation begins and ends."""
    pairs = [sentence(random.Random(seed), new=False) for seed in range(3000)]
    return ["<begin>", "<end>", *sorted({word for pair in pairs for words in pair for word in words})]


VOCABULARY = vocabulary()
BEGIN, END = 0, 1
ID = {word: number for number, word in enumerate(VOCABULARY)}


def batch(sentences: Sequence[Sequence[str]]) -> tuple[Tensor, Coordinates]:
    """Rows of word numbers, padded on the right, and where the words stand."""
    lengths = torch.tensor([len(words) for words in sentences])
    ids = pad_sequence([torch.tensor([ID[word] for word in words]) for words in sentences], batch_first=True)
    return ids, rows(lengths, ids.shape[1])


def train(model: Transformer, steps: int) -> None:
    """Teach the model to guess every next word of a translation from the words before it."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    generator = random.Random(0)
    for step in range(1, steps + 1):
        english, spanish = zip(*(sentence(generator, new=False) for _ in range(64)), strict=True)
        source, of = batch(english)
        written, at = batch([["<begin>", *words] for words in spanish])
        expected, _ = batch([[*words, "<end>"] for words in spanish])
        logits = model(source, of, written, at)
        loss = F.cross_entropy(logits[at.segment > 0], expected[at.segment > 0], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step:4}  loss {loss.item():.3f}")


def translate(model: Transformer, sentences: Sequence[Sequence[str]], beams: int) -> list[list[str]]:
    """The best translation that a search with so many beams finds."""
    source, of = batch(sentences)
    begin = torch.full((len(source),), BEGIN)
    found = beam_search(model.step, model.read(source, of, LONGEST), begin, end=END, longest=LONGEST, beams=beams)
    pairs = zip(found.tokens[:, 0].tolist(), found.lengths[:, 0].tolist(), strict=True)
    return [[VOCABULARY[token] for token in tokens[:length]] for tokens, length in pairs]


def picture(model: Transformer, english: Sequence[str], spanish: Sequence[str]) -> Figure:
    """Where the decoder looked in the English sentence as it wrote each Spanish word."""
    source, of = batch([english])
    written, at = batch([["<begin>", *spanish[:-1]]])
    with torch.no_grad():
        weights = model.attention_weights(source, of, written, at)[-1].across[0].mean(0)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    axes.imshow(weights, cmap="Blues", vmin=0)
    axes.set_xticks(range(len(english)), english, rotation=45, ha="left", fontsize=12)
    axes.set_yticks(range(len(spanish)), spanish, fontsize=12)
    axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xlabel("Attention of each Spanish word to the English sentence (last block, mean of its heads)")
    return figure


def main() -> None:
    """Train, measure on sentences with numbers that were held out, translate two of them, and draw the last one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="of training")
    parser.add_argument("--out", type=Path, default=Path("translation.png"), help="the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for tensors this small, more threads only wait for each other
    torch.manual_seed(0)

    model = encoder_decoder(len(VOCABULARY), width=64, blocks=2, heads=4, hidden=256, dropout=0.0)
    train(model, options.steps)

    generator = random.Random(1)
    english, spanish = zip(*(sentence(generator, new=True) for _ in range(500)), strict=True)
    model.eval()
    for beams in (1, 4):
        right = [a == b for a, b in zip(translate(model, english, beams), spanish, strict=True)]
        print(f"sentences with new numbers translated without a mistake, {beams} beams: {sum(right) / 500:.1%}")
    longest = sorted(english, key=len)[-2:]
    for words, translation in zip(longest, translate(model, longest, beams=4), strict=True):
        print(f"{' '.join(words)}\n    -> {' '.join(translation)}")
    picture(model, longest[-1], translation).savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
