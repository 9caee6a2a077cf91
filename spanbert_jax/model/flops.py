"""Matrix-product work of the model, counted analytically (compilers count a scanned layer once)."""

import jax

from spanbert_jax.model.config import ModelConfig

# Dense bfloat16 peak per device in FLOP/s, from the vendors' data sheets, by a part of `jax.Device.device_kind`.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "H200": 989e12,
    "H100": 989e12,
    "A100": 312e12,
}


def training_flops(config: ModelConfig, rows: int, length: int, targets: int) -> int:
    """FLOPs of one update's matrix products: forward, and twice that backward; rematerialised work is not counted.

    Args:
      config: the model.
      rows: B.
      length: L.
      targets: K, masked targets per row, each projected onto the vocabulary by both heads.
    """
    D, F, V = config.hidden_size, config.intermediate_size, config.padded_vocab_size
    layer = length * (8 * D * D + 4 * D * F) + 4 * length * length * D
    mlm = targets * 2 * (D * D + D * V)
    sbo = targets * 2 * ((2 * D + config.span_position_size) * D + D * D + D * V)
    return 3 * rows * (config.num_layers * layer + mlm + sbo)


def peak_flops(device: jax.Device) -> float | None:
    """The device's dense bfloat16 peak in FLOP/s, or None where the table does not know it."""
    return next((peak for kind, peak in PEAK_FLOPS.items() if kind in device.device_kind), None)
