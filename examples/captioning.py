"""Image captioning: a Transformer looks at a picture and describes it (after Xu et al. 2015).

    a big red ring above a small blue cross

A few convolutions leave a grid of cells, the encoder reads them, the decoder writes the caption, and at every word it looks at
the cells again.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Coordinates, LearnedPositions, View, rows, same_segment
from headwise.transformer import encoder_decoder, greedy

WIDTH, PIXELS, GRID = 64, 48, 6  # the backbone leaves a grid of GRID x GRID cells
COLOURS = {"red": (0.85, 0.2, 0.2), "green": (0.2, 0.65, 0.3), "blue": (0.2, 0.35, 0.85), "yellow": (0.95, 0.8, 0.2)}
SHAPES, SIZES = ["ring", "square", "cross"], {"small": 5.5, "big": 10.0}  # half their height, pixels
WORDS = ["<end>", "<begin>", "a", *SIZES, *COLOURS, *SHAPES, "above", "below"]
LENGTH = 10  # words of the longest caption, its end included


def scene(draw: np.random.Generator) -> tuple[np.ndarray, list[str]]:
    """A picture [PIXELS, PIXELS, 3] of two things, and what they are, from left to right."""
    image = np.full((PIXELS, PIXELS, 3), 0.95) + draw.normal(0, 0.02, (PIXELS, PIXELS, 3))
    relation = draw.choice(["above", "below"])  # of the left one to the right one
    heights = sorted(draw.uniform((11, 28), (20, 37)), reverse=relation == "below")
    centres = zip(draw.uniform((11, 34), (14, 37)), heights, strict=True)
    described = []
    for x, y in centres:
        size, colour, shape = draw.choice(list(SIZES)), draw.choice(list(COLOURS)), draw.choice(SHAPES)
        right, down = np.arange(PIXELS) + 0.5 - x, np.arange(PIXELS)[:, None] + 0.5 - y
        half = SIZES[size]
        inside = {
            "ring": (0.25 * half**2 < right**2 + down**2) & (right**2 + down**2 < half**2),
            "square": np.maximum(abs(right), abs(down)) < half,
            "cross": (np.maximum(abs(right), abs(down)) < half) & (np.minimum(abs(right), abs(down)) < half / 3),
        }[shape]
        image[inside] = COLOURS[colour]
        described.append(f"a {size} {colour} {shape}")
    return image.clip(0, 1), f"{described[0]} {relation} {described[1]}".split()


def batch(scenes: list[tuple[np.ndarray, list[str]]]) -> tuple[Tensor, Tensor]:
    """Images [batch, 3, PIXELS, PIXELS], and captions [batch, 11] from <begin> to <end>."""
    images = torch.from_numpy(np.stack([image for image, _ in scenes])).float().permute(0, 3, 1, 2)
    captions = torch.zeros(len(scenes), LENGTH + 1, dtype=torch.long)
    for row, (_, words) in enumerate(scenes):
        captions[row, : len(words) + 1] = torch.tensor([WORDS.index(word) for word in ["<begin>", *words]])
    return images - 0.5, captions


class Captioner(nn.Module):
    """A Transformer that reads the cells of a picture, as a few convolutions leave them, in place of words."""

    def __init__(self) -> None:
        super().__init__()
        model = encoder_decoder(len(WORDS), width=WIDTH, blocks=2, heads=4, hidden=2 * WIDTH, dropout=0.0)
        self.encoder, self.writer = model.encoder, model.writer
        self.places = LearnedPositions(GRID**2, WIDTH)
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, WIDTH, 4, stride=2, padding=1),
        )
        self.norm = nn.LayerNorm(WIDTH)

    def look(self, images: Tensor) -> tuple[Tensor, Coordinates]:
        """The encoded cells and where they stand."""
        of = full(len(images), GRID**2)
        cells = self.norm(self.backbone(images).flatten(2).transpose(1, 2))
        return self.encoder(cells + self.places(of.position), View(of, same_segment)), of

    def forward(self, images: Tensor, words: Tensor) -> Tensor:
        """The logits of the word after each."""
        logits: Tensor = self.writer(words, full(*words.shape), *self.look(images))
        return logits


def full(batch: int, time: int) -> Coordinates:
    """Coordinates of rows without padding."""
    return rows(torch.full((batch,), time), time)


def train(model: Captioner, steps: int) -> None:
    """Teach the model to guess every next word of a caption from the words before it."""
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    draw = np.random.default_rng(0)
    for step in range(1, steps + 1):
        images, captions = batch([scene(draw) for _ in range(32)])
        logits, expected = model(images, captions[:, :-1]), captions[:, 1:]
        real = captions[:, :-1] != WORDS.index("<end>")
        loss = F.cross_entropy(logits[real], expected[real])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step:4}  loss {loss.item():.3f}")


@torch.no_grad()
def captions(model: Captioner, images: Tensor) -> list[list[str]]:
    """What the model says of each picture."""
    begin = torch.full((len(images),), WORDS.index("<begin>"))
    start = model.writer.remember(*model.look(images), LENGTH)
    said = greedy(model.writer.step, start, begin, end=WORDS.index("<end>"), longest=LENGTH)
    return [
        [WORDS[word] for word in tokens[:n]] for tokens, n in zip(said.tokens[:, 0], said.lengths[:, 0], strict=True)
    ]


def picture(model: Captioner, image: np.ndarray, images: Tensor, words: list[str]) -> Figure:
    """The picture once for each word of the caption, bright where the model looked as it wrote that word."""
    ids = torch.tensor([[WORDS.index(word) for word in ["<begin>", *words[:-1]]]])
    with torch.no_grad():
        blocks = model.writer.attention_weights(ids, full(*ids.shape), *model.look(images))
    weights = blocks[-1].across[0].mean(0).reshape(-1, GRID, GRID)
    figure = Figure(figsize=(12, 5.4), layout="constrained")
    frames = list(figure.subplots(2, 5).flat)
    frames[0].set_title("the picture", fontsize=14, style="italic")
    for frame in frames:
        frame.axis("off")
    frames[0].imshow(image)
    for frame, word, weight in zip(frames[1:], words, weights, strict=False):
        light = F.interpolate(weight[None, None] / weight.max(), image.shape[:2], mode="bilinear")[0, 0, ..., None]
        frame.imshow(image * (0.2 + 0.8 * light.numpy()))
        frame.set_title(word, fontsize=14)
    return figure


def main() -> None:
    """Train, measure on new pictures, caption two of them and draw where the words of the last one came from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=800, help="of training")
    parser.add_argument("--out", type=Path, default=Path("captioning.png"), help="the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for tensors this small, more threads only wait for each other
    torch.manual_seed(0)

    model = Captioner()
    train(model, options.steps)

    draw = np.random.default_rng(1)
    scenes = [scene(draw) for _ in range(300)]
    images, _ = batch(scenes)
    said = captions(model, images)
    pairs = [(a, b) for ours, (_, theirs) in zip(said, scenes, strict=True) for a, b in zip(ours, theirs, strict=False)]
    print(f"words right: {sum(a == b for a, b in pairs) / sum(len(words) for _, words in scenes):.1%}")
    print(
        f"whole captions right (1 in 1152 by chance): {sum(a == b for a, (_, b) in zip(said, scenes, strict=True)) / 300:.1%}"
    )
    for ours, (_, theirs) in zip(said[:2], scenes, strict=False):
        print(f"there is  {' '.join(theirs)}\n    said  {' '.join(ours)}")
    picture(model, scenes[1][0], images[1:2], said[1]).savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
