"""Random weights by which photos are told apart.

Those that an initializer makes answer every photo alike: what pooling leaves of
one differs little from another's. Here the last layer gets weights that fit what
the layers before it make of pictures that resemble photos.
"""

import numpy as np


def pictures(size, low=-1.0, high=1.0, count=4):
    """float32 [count, height, width, 3] of smooth colours from low to high, with some noise."""
    random = np.random.RandomState(7)
    y, x = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]), indexing="ij")
    made = []
    for _ in range(count):
        picture = np.full([*size, 3], random.uniform(0.15, 0.85, 3))
        for scale in 2, 4, 8, 16:
            a, b = random.uniform(-scale, scale, 2)
            wave = np.cos(2 * np.pi * (a * x + b * y + random.uniform()))
            picture += random.uniform(0.03, 0.2, 3) * wave[..., np.newaxis]
        picture += random.normal(0, 0.03, picture.shape)
        made.append(low + (high - low) * np.clip(picture, 0, 1))
    return np.array(made, np.float32)


def last_layer(features, classes, seed=50, spread=2.0):
    """Kernel and bias of a dense layer after these features of pictures, so that logits are some multiples of spread."""
    random = np.random.RandomState(seed)
    mean, deviation = features.mean(0), features.std(0)
    deviation = np.maximum(deviation, deviation.max() / 20 + 1e-6)
    kernel = random.normal(0, spread / len(mean) ** 0.5, [len(mean), classes]) / deviation[:, np.newaxis]
    bias = random.normal(0, 0.2, classes) - mean @ kernel
    return kernel.astype(np.float32), bias.astype(np.float32)
