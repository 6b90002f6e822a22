"""Training that knows how its weights will be rounded, so that rounding them to few bits costs little.

finetune/README.md has what rounding without it costs, and docs/speed.md what few bits save.
"""

from typing import Any

import gguf
import torch
from peft.tuners.lora import Linear

ROUND_STEPS = 20
"""Steps between two roundings. The error changes little in between, and a rounding takes about as long as a step."""


class Rounding:
    """The base's matrices, moved so that base and adapter add up to what they are when merged and rounded.

    The gradient is then that of the rounded weights, handed straight through to the adapter (Bengio et al., "Estimating
    or propagating gradients through stochastic neurons", 2013). `model`: a PEFT model with LoRA on linear layers;
    `kind`: a name of GGML's types. A matrix whose rows are no whole blocks is left alone.
    """

    def __init__(self, model: Any, kind: str) -> None:
        self._kind = gguf.GGMLQuantizationType[kind]
        block, _ = gguf.GGML_QUANT_SIZES[self._kind]
        layers: list[Any] = [module for module in model.modules() if isinstance(module, Linear)]
        self._layers = [layer for layer in layers if layer.base_layer.weight.shape[1] % block == 0]
        self._exact = [layer.base_layer.weight.detach().float().cpu() for layer in self._layers]

    @torch.no_grad()
    def renew(self) -> None:
        """Round by the adapter as it is now."""
        for layer, exact in zip(self._layers, self._exact, strict=True):
            change = layer.get_delta_weight("default").float().cpu()  # the rounding is numpy's, wherever the model is
            rounded = gguf.quants.quantize((exact + change).numpy(), self._kind)
            layer.base_layer.weight.copy_(torch.from_numpy(gguf.quants.dequantize(rounded, self._kind)) - change)
