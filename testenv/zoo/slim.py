"""Inception v3 as TF-Slim builds it for TensorFlow 1: its structure, variables and names."""

import functools

import numpy as np
import tensorflow as tf

import likeness
from answers import Reading
from graphs import build, signature, tf1
from registry import model

CLASSES = 1001


class Builder:
    """Adds layers to the default graph."""

    def __init__(self, training, width):
        self.training = training
        self.width = width  # slim's depth_multiplier
        self.seed = 0
        self.features = None
        self.statistics = []  # of each batch norm: its variables, and mean and variance of this batch

    def variable(self, name, shape, value):
        return tf1.get_variable(name, shape, initializer=value)

    def kernel(self, shape):
        self.seed += 1
        deviation = (2 / np.prod(shape[:3])) ** 0.5
        return self.variable("weights", shape, tf1.truncated_normal_initializer(stddev=deviation, seed=self.seed))

    def conv(self, x, name, depth, kernel, stride=1, padding="SAME"):
        """A convolution without bias, a batch norm without scale, ReLU."""
        depth = max(int(depth * self.width), 16)
        with tf1.variable_scope(name):
            x = tf1.nn.conv2d(x, self.kernel([*kernel, int(x.shape[3]), depth]), [1, stride, stride, 1], padding, name="Conv2D")
            with tf1.variable_scope("BatchNorm"):
                beta = self.variable("beta", [depth], tf1.random_normal_initializer(stddev=0.3, seed=self.seed))
                mean = self.variable("moving_mean", [depth], tf1.zeros_initializer())
                variance = self.variable("moving_variance", [depth], tf1.ones_initializer())
                given = {} if self.training else {"mean": mean, "variance": variance}
                x, *batch = tf1.nn.fused_batch_norm(x, tf.ones([depth]), beta, **given, epsilon=0.001, is_training=self.training)
                self.statistics.append((mean, variance, *batch))
            return tf.nn.relu(x, name="Relu")

    def pool(self, x, kind, size=3, stride=2, padding="VALID"):
        return getattr(tf1.nn, kind)(x, [1, size, size, 1], [1, stride, stride, 1], padding)

    def mixed(self, x, name, *branches):
        """Branches of layers, joined: a layer is (name, depth, kernel), with a stride of 2 where its name is of 1a."""
        with tf1.variable_scope(name):
            outputs = []
            for i, layers in enumerate(branches):
                with tf1.variable_scope(f"Branch_{i}"):
                    outputs.append(self.branch(x, layers))
            return tf.concat(outputs, 3)

    def branch(self, x, layers):
        for layer in layers:
            if layer == "max":
                x = self.pool(x, "max_pool")
            elif layer == "mean":
                x = self.pool(x, "avg_pool", stride=1, padding="SAME")
            elif isinstance(layer, list):  # side by side
                x = tf.concat([self.conv(x, *one) for one in layer], 3)
            else:
                name, depth, kernel = layer
                x = self.conv(x, name, depth, kernel, *((2, "VALID") if "_1a_" in name and kernel == (3, 3) else ()))
        return x


def layer(name, depth, *kernel):
    return name, depth, kernel


def inception_v3(images, training=False, width=1):
    """Logits, and their Builder: with the statistics of the batch norms, and the features that the logits are made of."""
    b = Builder(training, width)
    one = (1, 1)
    with tf1.variable_scope("InceptionV3"):
        x = b.conv(images, "Conv2d_1a_3x3", 32, (3, 3), 2, "VALID")
        x = b.conv(x, "Conv2d_2a_3x3", 32, (3, 3), 1, "VALID")
        x = b.conv(x, "Conv2d_2b_3x3", 64, (3, 3))
        x = b.pool(x, "max_pool")
        x = b.conv(x, "Conv2d_3b_1x1", 80, one, 1, "VALID")
        x = b.conv(x, "Conv2d_4a_3x3", 192, (3, 3), 1, "VALID")
        x = b.pool(x, "max_pool")
        for name, depth, first, second in (("5b", 32, "0a_1x1", "Conv2d_0b_5x5"), ("5c", 64, "0b_1x1", "Conv_1_0c_5x5"), ("5d", 64, "0a_1x1", "Conv2d_0b_5x5")):
            x = b.mixed(x, f"Mixed_{name}",
                        [layer("Conv2d_0a_1x1", 64, 1, 1)],
                        [layer(f"Conv2d_{first}", 48, 1, 1), layer(second, 64, 5, 5)],
                        [layer("Conv2d_0a_1x1", 64, 1, 1), layer("Conv2d_0b_3x3", 96, 3, 3), layer("Conv2d_0c_3x3", 96, 3, 3)],
                        ["mean", layer("Conv2d_0b_1x1", depth, 1, 1)])
        x = b.mixed(x, "Mixed_6a",
                    [layer("Conv2d_1a_1x1", 384, 3, 3)],
                    [layer("Conv2d_0a_1x1", 64, 1, 1), layer("Conv2d_0b_3x3", 96, 3, 3), layer("Conv2d_1a_1x1", 96, 3, 3)],
                    ["max"])
        for name, n in ("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192):
            x = b.mixed(x, f"Mixed_{name}",
                        [layer("Conv2d_0a_1x1", 192, 1, 1)],
                        [layer("Conv2d_0a_1x1", n, 1, 1), layer("Conv2d_0b_1x7", n, 1, 7), layer("Conv2d_0c_7x1", 192, 7, 1)],
                        [layer("Conv2d_0a_1x1", n, 1, 1), layer("Conv2d_0b_7x1", n, 7, 1), layer("Conv2d_0c_1x7", n, 1, 7),
                         layer("Conv2d_0d_7x1", n, 7, 1), layer("Conv2d_0e_1x7", 192, 1, 7)],
                        ["mean", layer("Conv2d_0b_1x1", 192, 1, 1)])
        auxiliary(b, x)
        x = b.mixed(x, "Mixed_7a",
                    [layer("Conv2d_0a_1x1", 192, 1, 1), layer("Conv2d_1a_3x3", 320, 3, 3)],
                    [layer("Conv2d_0a_1x1", 192, 1, 1), layer("Conv2d_0b_1x7", 192, 1, 7), layer("Conv2d_0c_7x1", 192, 7, 1),
                     layer("Conv2d_1a_3x3", 192, 3, 3)],
                    ["max"])
        for name, second in ("7b", "Conv2d_0b_3x1"), ("7c", "Conv2d_0c_3x1"):
            x = b.mixed(x, f"Mixed_{name}",
                        [layer("Conv2d_0a_1x1", 320, 1, 1)],
                        [layer("Conv2d_0a_1x1", 384, 1, 1), [layer("Conv2d_0b_1x3", 384, 1, 3), layer(second, 384, 3, 1)]],
                        [layer("Conv2d_0a_1x1", 448, 1, 1), layer("Conv2d_0b_3x3", 384, 3, 3),
                         [layer("Conv2d_0c_1x3", 384, 1, 3), layer("Conv2d_0d_3x1", 384, 3, 1)]],
                        ["mean", layer("Conv2d_0b_1x1", 192, 1, 1)])
        with tf1.variable_scope("Logits"):
            x = b.pool(x, "avg_pool", 8, 2)
            with tf1.variable_scope("Conv2d_1c_1x1"):
                b.features = tf.squeeze(x, [1, 2])
                kernel = b.variable("weights", [1, 1, int(x.shape[3]), CLASSES], tf1.zeros_initializer())
                x = tf1.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME", name="Conv2D")
                x = tf.nn.bias_add(x, b.variable("biases", [CLASSES], tf1.zeros_initializer()))
            logits = tf.squeeze(x, [1, 2], name="SpatialSqueeze")
    return logits, b


def auxiliary(b, x):
    """The second head, which training has and a checkpoint keeps."""
    with tf1.variable_scope("AuxLogits"):
        x = b.pool(x, "avg_pool", 5, 3)
        x = b.conv(x, "Conv2d_1b_1x1", 128, (1, 1))
        x = b.conv(x, "Conv2d_2a_5x5", 768, (5, 5), 1, "VALID")
        with tf1.variable_scope("Conv2d_2b_1x1"):
            x = tf1.nn.conv2d(x, b.kernel([1, 1, int(x.shape[3]), CLASSES]), [1, 1, 1, 1], "SAME")
            tf.nn.bias_add(x, b.variable("biases", [CLASSES], tf1.zeros_initializer()))


def settle(session, width=1):
    """Gives the batch norms means and variances that fit the weights: else all photos look alike in the end."""
    with tf.Graph().as_default(), tf1.Session() as training:
        tf1.set_random_seed(1)  # as the session's graph: the weights are the same
        b = inception_v3(tf.constant(likeness.pictures((299, 299))), training=True, width=width)[1]
        training.run(tf1.global_variables_initializer())
        found, features = training.run([
            {variable.op.name: value for mean, variance, *batch in b.statistics for variable, value in zip((mean, variance), batch)},
            b.features])
    kernel, bias = likeness.last_layer(features, CLASSES)
    found |= {"InceptionV3/Logits/Conv2d_1c_1x1/weights": kernel[np.newaxis, np.newaxis], "InceptionV3/Logits/Conv2d_1c_1x1/biases": bias}
    for variable in tf1.global_variables():
        if variable.op.name in found:
            variable.load(found[variable.op.name], session)


@model(
    predictions=Reading(input="inputs", size=(299, 299), scores="predictions"),
    logits=Reading(input="inputs", size=(299, 299), scores="logits"),
)
def slim_v3(directory):
    """TF-Slim's Inception v3 with two outputs, and a fourth of the channels."""

    def make():
        images = tf1.placeholder(tf.float32, [None, 299, 299, 3], name="input")
        logits, _ = inception_v3(images, width=0.25)
        predictions = tf.nn.softmax(logits, name="InceptionV3/Predictions/Softmax")
        return {"serving_default": signature({"inputs": images}, {"logits": logits, "predictions": predictions})}

    build(directory, make, change=functools.partial(settle, width=0.25))
