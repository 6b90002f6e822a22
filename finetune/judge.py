"""A learned judge of whether a motion fits a text, as text-to-motion work measures it: R-Precision and distance.

Two small networks put texts and motions on one unit sphere. They are trained on the training split alone, so that a
text lies nearer to its own motion than to the others of a batch (InfoNCE). A text is the mean over its tokens of a
frozen language model's middle layer; a motion is its poses at a few moments, spread over its length.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from kff_live.finetune.motions import Motion

POOL = 32
"""Texts among which a motion has to find its own; as in the literature."""

_MOMENTS = 16
_WIDTH, _HIDDEN, _BATCH, _EPOCHS = 128, 256, 128, 30

Progress = Callable[[int, int], None]
"""Told how much of how much is done."""

Pair = tuple[str, Motion]
"""A text and its motion."""


class Reader:
    """Texts as vectors: the mean over their tokens of the middle layer of a frozen model of transformers."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self._model = model.eval()
        self._tokenizer = tokenizer

    @torch.inference_mode()
    def read(self, texts: list[str], *, progress: Progress = lambda done, of: None) -> torch.Tensor:
        """float32[texts, width of the model]."""
        ids = [self._tokenizer(text, add_special_tokens=False).input_ids for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # texts of one batch are alike in length
        rows: dict[int, torch.Tensor] = {}
        for start in range(0, len(order), 16):
            some = order[start : start + 16]
            batch = nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in some], batch_first=True)
            mask = nn.utils.rnn.pad_sequence([torch.ones(len(ids[i])) for i in some], batch_first=True)
            with torch.autocast("cpu", torch.bfloat16):
                states = self._model(
                    input_ids=batch, attention_mask=mask.long(), output_hidden_states=True, use_cache=False,
                    logits_to_keep=1,
                ).hidden_states  # fmt: skip
            middle = states[len(states) // 2].float()
            means = (middle * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            rows.update(zip(some, means, strict=True))
            progress(len(rows), len(order))
        return torch.stack([rows[i] for i in range(len(ids))])


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
        self._scales = [(known.mean(0), known.std(0, correction=0) + 0.05) for known in (texts, motions)]
        self._sides = nn.ModuleList(
            nn.Sequential(
                nn.Dropout(0.5), nn.Linear(known.shape[1], _HIDDEN), nn.GELU(),
                nn.Dropout(0.5), nn.Linear(_HIDDEN, _WIDTH),
            )
            for known in (texts, motions)
        )  # fmt: skip
        self._sharpness = nn.Parameter(torch.tensor(2.5))

    def forward(self, texts: torch.Tensor, motions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Points of what `Reader.read` and `moments` give: float32[n, 128] each."""
        text, motion = (
            nn.functional.normalize(side((known - mean) / spread), dim=-1)
            for side, known, (mean, spread) in zip(self._sides, (texts, motions), self._scales, strict=True)
        )
        return text, motion

    def loss(self, texts: torch.Tensor, motions: torch.Tensor) -> torch.Tensor:
        """InfoNCE both ways over pairs, row by row."""
        text, motion = self(texts, motions)
        likeness = text @ motion.T * self._sharpness.exp()
        own = torch.arange(len(texts))
        return (nn.functional.cross_entropy(likeness, own) + nn.functional.cross_entropy(likeness.T, own)) / 2

    @torch.inference_mode()
    def points(self, texts: list[str], motions: list[Motion]) -> tuple[torch.Tensor, torch.Tensor]:
        """Points of texts and motions."""
        self.eval()
        text, motion = self(self._reader.read(texts), moments(motions))
        return text, motion


def train_judge(reader: Reader, pairs: list[Pair], held_out: list[Pair], *, seed: int = 1, progress: Progress) -> Judge:
    """A judge, kept as it was when `held_out` fitted best; without any, as it was last."""
    torch.manual_seed(seed)
    texts, motions = reader.read([text for text, _ in pairs], progress=progress), moments([m for _, m in pairs])
    other = (reader.read([text for text, _ in held_out]), moments([m for _, m in held_out])) if held_out else None
    judge = Judge(reader, texts, motions)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.05)
    best, kept = math.inf, judge.state_dict()
    for epoch in range(_EPOCHS):
        judge.train()
        order = torch.randperm(len(texts))
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            loss = judge.loss(texts[some], motions[some])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own gap
            optimizer.step()
        judge.eval()
        with torch.inference_mode():
            now = float(judge.loss(*other)) if other else -epoch
        if now < best:
            best, kept = now, {name: value.clone() for name, value in judge.state_dict().items()}
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
