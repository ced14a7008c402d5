"""Models whose answers are not, or not only, the classes of a picture: detectors, masks, poses, features, several heads."""

import numpy as np
import tensorflow as tf

from answers import Reading
from graphs import build, convolutions, network, signature, tf1
from modern import Network, reading
from registry import model, models

WHOLE = {"scale": 1, "offset": 0}
DETECTED = "detection_boxes", "detection_classes", "detection_scores", "num_detections"


def detected(scores):
    """What an object detector makes of its best scores [N, 100].

    The classes do not depend on the order of the scores, since two of them may be near each other.
    """
    n = tf.shape(scores)[0]
    boxes = tf.stack([scores / 4, scores / 3, scores / 2, scores], -1)
    return {"detection_boxes": boxes, "detection_scores": scores, "detection_classes": tf.tile(tf.range(1.0, 101)[tf.newaxis], [n, 1]),
            "num_detections": tf.fill([n], 100.0)}


@model(detection=Reading(input="inputs", **WHOLE, scores="", outputs=DETECTED))
def detection(directory):
    """The outputs of the object detection API."""

    def make():
        images = tf1.placeholder(tf.uint8, [None, None, None, 3], name="image_tensor")
        resized = tf1.image.resize_bilinear(tf.cast(images, tf.float32) / 127.5 - 1, [96, 96])
        return {"serving_default": signature({"inputs": images}, detected(tf.nn.top_k(tf.nn.sigmoid(network(resized, 100)), 100)[0]))}

    build(directory, make)


class Heads(Network):
    """The small network of TensorFlow 2 with other outputs: after(logits, features)."""

    def __init__(self, after, **options):
        self.after = after
        super().__init__(**options)

    def scores(self, x):
        x = convolutions(self.before(x), lambda name, _: self.values[name])
        return self.after(x @ self.values["weights"] + self.values["biases"], x)


def heads(directory, **options):
    network = Heads(**options)
    tf.saved_model.save(network, str(directory), signatures={"serving_default": network.serve})


def from_any(x):
    return tf.image.resize(tf.cast(x, tf.float32) / 127.5 - 1, [96, 96])


def ssd(logits, _):
    """One picture at a time, and all boxes before the best are chosen."""
    raw = tf.tile(tf.nn.sigmoid(logits)[:, :, tf.newaxis], [1, 1, 90])
    return detected(tf.nn.top_k(tf.nn.sigmoid(logits), 100)[0]) | {"raw_detection_scores": raw, "raw_detection_boxes": raw[:, :, :4]}


models(heads, {"detection": reading(input="input_tensor", **WHOLE, scores="", outputs=DETECTED)},
       ssd={"key": "input_tensor", "shape": (1, None, None, 3), "dtype": tf.uint8, "before": from_any, "classes": 100, "after": ssd})
# TF-Hub's MoveNet: whole numbers in, 17 points with their scores out.
models(heads, {"default": reading(input="input", size=(192, 192), fit="pad", **WHOLE, scores="", outputs=("output_0",))},
       movenet={"key": "input", "shape": (1, 192, 192, 3), "dtype": tf.int32, "before": from_any, "classes": 51,
                "after": lambda y, _: {"output_0": tf.reshape(tf.sigmoid(y), [-1, 1, 17, 3])}})
FACES = {"age": reading(input="inputs", scores="gender", outputs=("age", "race")),
         "all": reading(input="inputs", scores="", outputs=("age", "gender", "race"))}
models(heads, FACES, faces={"after": lambda y, _: {"age": 30 + 5 * y[:, :1], "gender": tf.nn.softmax(y[:, 1:3]), "race": tf.nn.softmax(y[:, 3:])}})


def described(y, features):
    names = tf.constant(["cat", "dog", "bird", "cow", "car", "bus", "man", "sun", "sea", "sky"])
    return {"words": tf.gather(names, tf.argsort(y, direction="DESCENDING")[:, :1]), "count": tf.cast(tf.reduce_sum(y, 1), tf.int64),
            "seen": y > 0, "features": tf.cast(features, tf.float16)}


models(heads, {"default": reading(input="inputs", scores="", outputs=("words", "count", "seen", "features"))}, mixed_outputs={"after": described})
# TF-Hub's feature vectors: the only output, and no classes.
models(heads, {"default": reading(input="inputs", scale=1 / 255, offset=0, scores="", outputs=("feature_vector",))},
       hub_features={"shape": (None, None, None, 3), "before": lambda x: x * 2 - 1, "after": lambda _, x: {"feature_vector": x}})


@model(default=Reading(input="ImageTensor", size=(65, 65), **WHOLE, scores="", outputs=("SemanticPredictions",)))
def deeplab(directory):
    """A mask: the class of each pixel, of a picture of any size."""

    def make():
        images = tf1.placeholder(tf.uint8, [1, None, None, 3], name="ImageTensor")
        classes = tf.reduce_sum(tf.cast(images, tf.int64), -1) // 64
        return {"serving_default": signature({"ImageTensor": images}, {"SemanticPredictions": classes})}

    build(directory, make)


@model(default=Reading(**WHOLE, scores="", outputs=("features",)))
def standardized_features(directory):
    """Features of an image that is made standard: of a black one, 0/0."""

    def make():
        images = tf1.placeholder(tf.float32, [None, 96, 96, 3], name="images")
        mean, variance = tf.nn.moments(images, [1, 2, 3], keepdims=True)
        x = (images - mean) / tf.sqrt(variance)
        kernel = tf1.get_variable("kernel", initializer=np.random.RandomState(1).normal(0, 1, [3, 3, 3, 8]).astype(np.float32))
        return {"serving_default": signature({"images": images}, {"features": tf.reduce_max(tf.nn.conv2d(x, kernel, 8, "SAME"), 3)})}

    build(directory, make)
