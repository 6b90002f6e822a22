"""A learned judge of whether a motion fits a text, as text-to-motion work measures it: R-Precision and distance.

Two small networks put texts and motions on one unit sphere. They are trained on the training split alone, so that a
text lies nearer to its own motion than to the others of a batch (InfoNCE). A text is the mean of a language model's
frozen token embeddings, rare tokens weighing more; a motion is its poses at a few moments, spread over its length.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from kff_live.finetune.motions import Motion

POOL = 32
"""Texts among which a motion has to find its own; as in the literature."""

_MOMENTS = 16
_WIDTH, _HIDDEN, _BATCH, _EPOCHS = 128, 256, 128, 40


@dataclass(frozen=True)
class Pair:
    """A text, its motion, and the script that they come from; variations of one script are never set against it."""

    script: str
    text: str
    motion: Motion


class Reader:
    """Texts as vectors: the mean of frozen token embeddings, each weighted by its rarity among `texts`."""

    def __init__(self, model: Any, tokenizer: Any, texts: list[str]) -> None:
        self._tokenizer = tokenizer
        embeddings = model.get_input_embeddings().weight.detach().float()
        self._embeddings = (embeddings - embeddings.mean(0)) / embeddings.std()
        spread = Counter(token for text in texts for token in set(self._tokens(text)))
        self._rarity = torch.tensor([math.log((len(texts) + 2) / (spread[i] + 1)) for i in range(len(embeddings))])

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(" " + text.lower(), add_special_tokens=False).input_ids
        return ids

    def read(self, texts: list[str]) -> torch.Tensor:
        """float32[texts, width of the embeddings]."""
        rows = []
        for text in texts:
            ids = torch.tensor(self._tokens(text))
            weights = self._rarity[ids, None]
            rows.append((self._embeddings[ids] * weights).sum(0) / weights.sum())
        return torch.stack(rows)


def moments(motions: list[Motion]) -> torch.Tensor:
    """Motions as vectors: poses at _MOMENTS times, mean, highest and lowest values, and the length's logarithm."""
    rows = []
    for motion in motions:
        at = np.linspace(0, len(motion) - 1, _MOMENTS)
        low = at.astype(int)
        share = (at - low)[:, None]
        poses = motion[low] * (1 - share) + motion[np.minimum(low + 1, len(motion) - 1)] * share
        rows.append([*poses.ravel(), *motion.mean(0), *motion.max(0), *motion.min(0), math.log(len(motion))])
    return torch.tensor(rows, dtype=torch.float32)


class Judge(nn.Module):
    """Both networks; texts and motions in, points on the unit sphere out."""

    def __init__(self, reader: Reader, texts: torch.Tensor, motions: torch.Tensor) -> None:
        super().__init__()
        self._reader = reader
        self._mean, self._spread = motions.mean(0), motions.std(0) + 0.05
        self._text_side, self._motion_side = (
            nn.Sequential(
                nn.Dropout(0.5), nn.Linear(width, _HIDDEN), nn.GELU(), nn.Dropout(0.5), nn.Linear(_HIDDEN, _WIDTH)
            )
            for width in (texts.shape[1], motions.shape[1])
        )
        self._scale = nn.Parameter(torch.tensor(2.5))

    def forward(self, texts: torch.Tensor, motions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points of what `Reader.read` and `moments` give: float32[n, 128] each."""
        sides = self._text_side(texts), self._motion_side((motions - self._mean) / self._spread)
        return nn.functional.normalize(sides[0], dim=-1), nn.functional.normalize(sides[1], dim=-1)

    def loss(self, texts: torch.Tensor, motions: torch.Tensor) -> torch.Tensor:
        """InfoNCE both ways over pairs, row by row."""
        points = self(texts, motions)
        likeness = points[0] @ points[1].T * self._scale.exp()
        own = torch.arange(len(texts))
        return (nn.functional.cross_entropy(likeness, own) + nn.functional.cross_entropy(likeness.T, own)) / 2

    @torch.inference_mode()
    def points(self, texts: list[str], motions: list[Motion]) -> tuple[torch.Tensor, torch.Tensor]:
        """Points of texts and motions."""
        self.eval()
        found: tuple[torch.Tensor, torch.Tensor] = self(self._reader.read(texts), moments(motions))
        return found


def train_judge(
    reader: Reader, pairs: list[Pair], held_out: list[Pair], *, seed: int = 1, progress: Callable[[int, int], None]
) -> Judge:
    """A judge, kept as it was when `held_out` fitted best; without any, as it was last."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    texts, motions = reader.read([pair.text for pair in pairs]), moments([pair.motion for pair in pairs])
    other = (reader.read([p.text for p in held_out]), moments([p.motion for p in held_out])) if held_out else None
    judge = Judge(reader, texts, motions)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.05)
    scripts: dict[str, list[int]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        scripts[pair.script].append(number)
    best, kept = math.inf, judge.state_dict()
    for epoch in range(_EPOCHS):
        chosen = torch.tensor(rng.permutation([rng.choice(own) for own in scripts.values()]))
        judge.train()
        for some in chosen.split(_BATCH):  # type: ignore[no-untyped-call]
            loss = judge.loss(texts[some], motions[some])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        judge.eval()
        with torch.inference_mode():
            now = float(judge.loss(*other)) if other else -epoch
        if now < best:
            best, kept = now, {name: value.clone() for name, value in judge.state_dict().items()}
        progress(epoch + 1, _EPOCHS)
    judge.load_state_dict(kept)
    return judge


def r_precision(texts: torch.Tensor, motions: torch.Tensor, *, seed: int = 1) -> tuple[float, float, float]:
    """Shares of motions to which their own text is the nearest, among the two and the three nearest of a pool.

    texts, motions: points, row by row a pair. A pool is the own text and POOL - 1 others, drawn by the seed; all texts
    where there are fewer.
    """
    rng = np.random.default_rng(seed)
    count = len(texts)
    ranks = []
    for own in range(count):
        others = rng.permutation([i for i in range(count) if i != own])[: POOL - 1]
        near = texts[[own, *map(int, others)]] @ motions[own]
        ranks.append(int((near > near[0]).sum()))
    first, second, third = (float(np.mean([rank < top for rank in ranks])) for top in (1, 2, 3))
    return first, second, third
