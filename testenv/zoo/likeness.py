"""Random weights by which photos are told apart.

Those that an initializer makes answer every photo alike: what pooling leaves of
one differs little from another's. Here the last layer gets weights that fit what
the layers before it make of photos.
"""

import numpy as np
from PIL import Image

photos = []  # files, set before the first model is built


def pictures(size, low=-1.0, high=1.0):
    """float32 [N, height, width, 3] of the photos, from low to high."""
    resized = [Image.open(file).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR) for file in photos]
    return (low + (high - low) / 255 * np.stack(resized)).astype(np.float32)


def last_layer(features, classes, seed=50, spread=2.0):
    """Kernel and bias of a dense layer after these features of photos, so that logits differ by some multiples of spread."""
    random = np.random.RandomState(seed)
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.maximum(deviation, deviation.max() / 20 + 1e-6)
    kernel = random.normal(0, spread / len(mean) ** 0.5, [len(mean), classes]) / deviation[:, np.newaxis]
    bias = random.normal(0, 0.2, classes) - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)
