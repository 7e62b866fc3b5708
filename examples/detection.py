"""Object detection as set prediction (DETR, Carion et al. 2020).

A few convolutions leave a grid of cells and the encoder reads them. The decoder is given a few learned queries, which see each
other and the picture, and each of them answers with one thing and its box, or with nothing. Training matches answers and
truth one to one, at the least cost in all (the Hungarian algorithm): a second answer for the same thing counts as wrong, so
that the queries learn to share out the work.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional as F

from headwise.attention import Attention, SinusoidalPositions, View, rows, same_segment
from headwise.transformer import Block, Decoder, DecoderBlock, Encoder, FeedForward

WIDTH, PIXELS, GRID = 64, 48, 6  # the backbone leaves a grid of GRID x GRID cells
QUERIES, MOST = 6, 3  # answers, and things in a picture at most
SHAPES = ["ring", "square", "cross"]
NOTHING = len(SHAPES)
PAINTS = [(0.85, 0.3, 0.3), (0.3, 0.65, 0.4), (0.35, 0.45, 0.85), (0.95, 0.8, 0.3)]


def scene(draw: np.random.Generator) -> tuple[np.ndarray, Tensor, Tensor]:
    """A picture [PIXELS, PIXELS, 3], the shapes of up to MOST things, and their boxes (left, top, right, bottom; 0..1)."""
    image = np.full((PIXELS, PIXELS, 3), 0.95) + draw.normal(0, 0.02, (PIXELS, PIXELS, 3))
    shapes, boxes = torch.full((MOST,), NOTHING), torch.zeros(MOST, 4)
    taken = np.zeros((PIXELS, PIXELS), bool)
    for number in range(draw.integers(1, MOST + 1)):
        shape, half = int(draw.integers(len(SHAPES))), draw.uniform(6, 10)
        x, y = draw.uniform(half, PIXELS - half, 2)
        right, down = np.arange(PIXELS) + 0.5 - x, np.arange(PIXELS)[:, None] + 0.5 - y
        inside = [
            (0.25 * half**2 < right**2 + down**2) & (right**2 + down**2 < half**2),
            np.maximum(abs(right), abs(down)) < half,
            (np.maximum(abs(right), abs(down)) < half) & (np.minimum(abs(right), abs(down)) < half / 3),
        ][shape]
        if not (inside & taken).any():  # things do not cover one another
            taken |= inside
            image[inside] = PAINTS[draw.integers(len(PAINTS))]
            shapes[number] = shape
            boxes[number] = torch.tensor([x - half, y - half, x + half, y + half]) / PIXELS
    return image.clip(0, 1), shapes, boxes


def batch(scenes: list[tuple[np.ndarray, Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Images [batch, 3, PIXELS, PIXELS], shapes and boxes."""
    images, shapes, boxes = zip(*scenes, strict=True)
    pixels = torch.from_numpy(np.stack(images)).float().permute(0, 3, 1, 2)
    return pixels - 0.5, torch.stack(shapes), torch.stack(boxes)


class Detector(nn.Module):
    """Convolutions -> encoder; learned queries -> decoder -> one shape and one box each."""

    def __init__(self) -> None:
        super().__init__()

        def attention() -> Attention:
            return Attention(WIDTH, 4)

        def feed_forward() -> FeedForward:
            return FeedForward(WIDTH, 2 * WIDTH, nn.GELU())

        self.backbone = nn.Sequential(
            nn.Conv2d(3, 16, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, WIDTH, 4, stride=2, padding=1),
        )
        self.norm = nn.LayerNorm(WIDTH)  # or the places would drown what there is to see
        self.sines = SinusoidalPositions(WIDTH // 2, base=100)  # half of the width tells the row, half the column
        self.encoder = Encoder([Block(WIDTH, attention(), feed_forward()) for _ in range(2)], WIDTH)
        self.queries = nn.Parameter(torch.randn(QUERIES, WIDTH))
        self.prior = nn.Parameter(
            torch.randn(QUERIES, 4)
        )  # each begins with a place of its own, which steadies the matching
        self.decoder = Decoder([DecoderBlock(WIDTH, attention(), attention(), feed_forward()) for _ in range(2)], WIDTH)
        self.shape = nn.Linear(WIDTH, len(SHAPES) + 1)
        self.box = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 4))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of every query the logits of the shapes and of nothing, and a box as shares of the picture."""
        hidden = self.decoder(*self._both(images))
        x, y, width, height = (self.box(hidden) + self.prior).sigmoid().unbind(-1)
        return self.shape(hidden), torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)

    def weights(self, images: Tensor) -> Tensor:
        """How much every query takes of each cell [batch, queries, cells]: last block, mean of its heads."""
        return self.decoder.weights(*self._both(images))[-1].across.mean(1)

    def _both(self, images: Tensor) -> tuple[Tensor, View, Tensor, View]:
        of, at = (rows(torch.full((len(images),), count), count) for count in (GRID**2, QUERIES))
        places = torch.cat([self.sines(of.position // GRID), self.sines(of.position % GRID)], -1)
        cells = self.norm(self.backbone(images).flatten(2).transpose(1, 2))
        seen = self.encoder(cells + places, View(of, same_segment))
        return self.queries.expand(len(images), -1, -1), View(at, same_segment), seen, View(at, same_segment, of)


def overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Of boxes [..., 4]: intersection over union, and that less the share of the common hull which is in neither (GIoU)."""
    corner, other = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    hull = (torch.maximum(first[..., 2:], second[..., 2:]) - torch.minimum(first[..., :2], second[..., :2])).prod(-1)
    inside = (other - corner).clamp(min=0).prod(-1)
    union = (first[..., 2:] - first[..., :2]).prod(-1) + (second[..., 2:] - second[..., :2]).prod(-1) - inside
    return inside / union, inside / union - (hull - union) / hull


def loss_of(logits: Tensor, boxes: Tensor, shapes: Tensor, truth: Tensor) -> Tensor:
    """The loss of a batch once answers and things are matched at the least cost; the boxes' weights are the paper's."""
    real = shapes != NOTHING
    apart = (boxes[:, :, None] - truth[:, None]).abs().sum(-1)
    by_box = 5 * apart + 2 * (1 - overlap(boxes[:, :, None], truth[:, None])[1])  # that query i answers thing j
    by_shape = -logits.softmax(-1).gather(2, shapes[:, None].expand_as(by_box))
    price = ((by_box + by_shape) * real[:, None]).detach().transpose(1, 2).numpy()
    queries = torch.tensor(np.stack([linear_sum_assignment(things)[1] for things in price]))  # of each thing
    expected = torch.full(logits.shape[:2], NOTHING).scatter(1, queries, shapes)
    weight = torch.tensor([1.0] * len(SHAPES) + [0.3])  # nothing is common; the paper takes 0.1 among 100 queries
    matched = by_box.gather(1, queries[:, None]).squeeze(1)[real].mean()
    return matched + F.cross_entropy(logits.flatten(0, 1), expected.flatten(), weight=weight)


def train(model: Detector, steps: int) -> None:
    """Teach the model to find things."""
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    draw = np.random.default_rng(0)
    for step in range(1, steps + 1):
        images, shapes, truth = batch([scene(draw) for _ in range(32)])
        logits, boxes = model(images)
        loss = loss_of(logits, boxes, shapes, truth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step:4}  loss {loss.item():.3f}")


def things(shapes: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Those that are something."""
    return shapes[shapes != NOTHING], boxes[shapes != NOTHING]


def hits(shapes: Tensor, boxes: Tensor, real: Tensor, truth: Tensor) -> int:
    """How many things were found: by an answer of their shape that overlaps them by half or more, each answer used once."""
    good = (overlap(boxes[:, None], truth)[0] >= 0.5) & (shapes[:, None] == real)
    return int(good[linear_sum_assignment(-good.float().numpy())].sum())


def picture(images: Tensor, shapes: Tensor, boxes: Tensor, looked: Tensor) -> Figure:
    """Images with the boxes that were found, and below where the query of each box looked, in its colour."""
    figure = Figure(figsize=(2.6 * len(images), 5.4), layout="constrained")
    axes = figure.subplots(2, len(images))
    paint = np.array([[0.9, 0.1, 0.3], [0.1, 0.4, 0.9], [0.0, 0.6, 0.3], [0.9, 0.5, 0], [0.5, 0.2, 0.8], [0, 0.6, 0.7]])
    for column, (above, below) in enumerate(axes.T):
        above.imshow(images[column].permute(1, 2, 0) + 0.5)
        light = np.ones((GRID, GRID, 3))
        for query in (shapes[column] != NOTHING).nonzero().flatten().tolist():
            left, top, right, bottom = (PIXELS * boxes[column, query] - 0.5).tolist()
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, linewidth=2.5, color=paint[query])
            above.add_patch(frame)
            name = SHAPES[shapes[column, query]]
            above.text(left, max(top - 1, 3), name, color=paint[query], fontsize=11, weight="bold", clip_on=True)
            weight = looked[column, query].reshape(GRID, GRID, 1).numpy()
            light -= (1 - paint[query]) * weight / weight.max()
        below.imshow(light.clip(0, 1), extent=(0, PIXELS, PIXELS, 0), interpolation="bicubic")
    for axis in figure.axes:
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0, 0].set_ylabel("what it found", fontsize=13)
    axes[1, 0].set_ylabel("where it looked", fontsize=13)
    return figure


def main() -> None:
    """Train, measure on new pictures how many things are found, list those of two pictures and draw five."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000, help="of training")
    parser.add_argument("--out", type=Path, default=Path("detection.png"), help="the picture")
    options = parser.parse_args()
    torch.set_num_threads(1)  # for tensors this small, more threads only wait for each other
    torch.manual_seed(0)

    model = Detector()
    train(model, options.steps)

    draw = np.random.default_rng(1)
    images, real, truth = batch([scene(draw) for _ in range(300)])
    with torch.no_grad():
        logits, boxes = model(images)
        looked = model.weights(images[:5])
    shapes = logits.argmax(-1)
    both = list(zip(shapes, boxes, real, truth, strict=True))
    right = sum(hits(*things(s, b), *things(r, t)) for s, b, r, t in both)
    print(f"things found: {right / int((real != NOTHING).sum()):.1%}")
    print(f"answers that are things: {right / max(1, int((shapes != NOTHING).sum())):.1%}")
    for s, b, r, t in both[:2]:
        for title, (names, places) in (("there is", things(r, t)), ("   found", things(s, b))):
            listed = zip(names.tolist(), (PIXELS * places).round().int().tolist(), strict=True)
            print(title, ", ".join(f"{SHAPES[name]} at {place}" for name, place in listed))
    picture(images[:5], shapes[:5], boxes[:5], looked).savefig(options.out, dpi=110)


if __name__ == "__main__":
    main()
