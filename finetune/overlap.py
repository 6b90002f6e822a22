"""How near in meaning texts are to forbidden ones, where no words in a row are shared."""

from typing import Any

import numpy as np

LIMIT = 0.85
"""Cosine from which two texts say nearly the same: found by reading the nearest pairs of our corpus."""

_RARE = 1e-3
"""How fast the weight of a word falls with its frequency; from the paper below."""


def nearest(
    texts: list[str], forbidden: list[str], background: list[str], model: Any, tokenizer: Any
) -> list[tuple[float, int]]:
    """For each text the cosine to the forbidden text that is nearest in meaning, and that one's index.

    A text is the mean of its tokens' input embeddings in `model` (of transformers), rare tokens weighing more, without
    the direction that all texts share: Arora, Liang & Ma 2017, "A Simple but Tough-to-Beat Baseline for Sentence
    Embeddings". What is rare and what is shared is told by all texts, and by those of `background`, so that it means
    the same for a few texts as for thousands.
    """
    every = [*texts, *forbidden, *background]
    ids = tokenizer([text.lower() for text in every], add_special_tokens=False).input_ids
    embeddings = model.get_input_embeddings().weight.detach().float().numpy()
    frequency = np.bincount(np.concatenate(ids).astype(int), minlength=len(embeddings)) / sum(map(len, ids))
    weights = _RARE / (_RARE + frequency)
    points = np.array([weights[one] @ embeddings[one] / max(len(one), 1) for one in ids])
    points -= points.mean(axis=0)
    shared = np.linalg.svd(points[:: max(len(points) // 2000, 1)], full_matrices=False)[2][0]
    points -= np.outer(points @ shared, shared)
    points /= np.linalg.norm(points, axis=1, keepdims=True) + 1e-9
    cosines = points[: len(texts)] @ points[len(texts) : len(texts) + len(forbidden)].T
    return [(float(row.max()), int(row.argmax())) for row in cosines]
