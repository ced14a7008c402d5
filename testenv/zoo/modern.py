"""Models of Keras 3 and TensorFlow 2 as people export them."""

import functools

import keras
import numpy as np
import tensorflow as tf

import likeness
from answers import Reading
from graphs import convolutions, features, write
from registry import model, models

layers = keras.layers
WHOLE = {"scale": 1, "offset": 0}  # pixels from 0 to 255, as the model scales them itself
UNIT = {"scale": 1 / 255, "offset": 0}  # from 0 to 1


def reading(**options):
    return Reading(**{"modern": True, "half_pixel_centers": True, "scores": "output_0"} | options)


def begin():
    """Keras counts its names and random numbers anew."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)


def settle(network, size, low, high):
    """Gives batch norms means and variances that fit the random weights, and the last dense layers weights that fit those."""
    pictures = likeness.pictures(size, low, high).astype(network.inputs[0].dtype)
    for part in network._flatten_layers():
        if isinstance(part, layers.BatchNormalization):
            part.momentum = 0.0
    network(pictures, training=True)
    for i, part in enumerate(network.layers):
        if isinstance(part, layers.Dense):
            features = keras.Model(network.inputs, part.input).predict(pictures, verbose=0).astype(np.float32)
            kernel, bias = likeness.last_layer(features, part.units, i)
            part.set_weights([kernel, bias])


def export(directory, network, size=(96, 96), low=-1, high=1):
    settle(network, size, low, high)
    network.export(str(directory), verbose=False)


def application(directory, make, size, low=-1, high=1, **options):
    begin()
    export(directory, make(weights=None, **options), size, low, high)


apps = keras.applications
models(application, {"default": reading(input="", size=(299, 299))},
       keras_inception_v3={"make": apps.InceptionV3, "size": (299, 299), "classes": 1001})
models(application, {"default": reading(input="", size=(96, 96), **WHOLE)},
       keras_mobilenet_v3={"make": apps.MobileNetV3Small, "size": (96, 96), "low": 0, "high": 255, "classes": 10,
                           "input_shape": (96, 96, 3), "include_preprocessing": True})
models(application, {"default": reading(input="", size=(224, 224), **WHOLE)},
       keras_efficientnet={"make": apps.EfficientNetB0, "size": (224, 224), "low": 0, "high": 255, "classes": 10})
models(application, {"default": reading(input="", size=(224, 224))},
       keras_mobilenet_v2={"make": apps.MobileNetV2, "size": (224, 224), "classes": 10})


def body(x, classes=10, activation="softmax", name="scores"):
    for filters in 8, 16, 32:
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return x, layers.Dense(classes, activation=activation, name=name)(x)


def small(directory, before=lambda x: x, low=0, high=255, shape=(96, 96, 3), dtype="float32", after=lambda x, y: y, classes=10,
          activation="softmax", policy="float32", how="export"):
    """A small network with something before it and after it."""
    begin()
    keras.config.set_dtype_policy(policy)
    try:
        image = layers.Input(shape, dtype=dtype, name="image")
        features, scores = body(before(image), classes, activation)
        network = keras.Model(image, after(features, scores))
    finally:
        keras.config.set_dtype_policy("float32")
    settle(network, (96, 96), low, high)
    if how == "export":
        network.export(str(directory), verbose=False)
    else:
        tf.saved_model.save(network, str(directory))


def caffe(x):
    """Blue first, and without each channel's mean."""
    return layers.Lambda(lambda x: x[..., ::-1] - tf.constant([103.939, 116.779, 123.68]), output_shape=lambda s: s)(x)


def nested(x):
    inner = layers.Input((96, 96, 3))
    return keras.Model(inner, layers.Rescaling(1 / 127.5, -1)(inner), name="preprocessing")(x)


IMAGE = {"input": "image"}
models(small, {"default": reading(**IMAGE, **WHOLE)},
       keras_rescaling_255={"before": layers.Rescaling(1 / 255)},
       keras_rescaling_127={"before": layers.Rescaling(1 / 127.5, -1)},
       keras_nested={"before": nested},
       keras_preprocess_input={"before": lambda x: x / 127.5 - 1},
       keras_normalization={"before": layers.Normalization(mean=[123.675, 116.28, 103.53], variance=[58.395**2, 57.12**2, 57.375**2])},
       keras_caffe={"before": caffe},
       keras_uint8={"dtype": "uint8", "before": layers.Rescaling(1 / 255)})
models(small, {"default": reading(**IMAGE, **UNIT)}, keras_minus_half={"before": lambda x: (x - 0.5) * 2, "high": 1})
models(small, {"default": reading(**IMAGE)}, keras_plain={"low": -1, "high": 1},
       keras_sigmoid={"low": -1, "high": 1, "classes": 1, "activation": "sigmoid"},
       keras_mixed_float16={"low": -1, "high": 1, "policy": "mixed_float16"},
       keras_dynamic={"low": -1, "high": 1, "shape": (None, None, 3)},
       keras_no_top={"low": -1, "high": 1, "after": lambda x, y: x})
models(small, {"default": reading(input="")}, keras_saved={"low": -1, "high": 1, "how": "save"})
models(small, {"first": reading(**IMAGE, **WHOLE), "second": reading(scores="output_1", **IMAGE, **WHOLE)},
       keras_two_outputs={"before": layers.Rescaling(1 / 255), "after": lambda x, y: [y, layers.Dense(3, activation="softmax")(x)]})
models(small, {"probabilities": reading(scores="probabilities", **IMAGE, **WHOLE)},
       keras_dict={"before": layers.Rescaling(1 / 255), "after": lambda x, y: {"probabilities": y, "features": x}})


@model(default=reading(input="", **WHOLE))
def keras_sequential(directory):
    begin()
    network = keras.Sequential([
        layers.Input((96, 96, 3)), layers.Rescaling(1 / 255), layers.Conv2D(8, 3, strides=2, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.2), layers.Dense(10, activation="softmax")])
    export(directory, network, low=0, high=255)


class Network(tf.Module):
    """The small network of graphs.py with variables of TensorFlow 2, and one signature."""

    def __init__(self, shape=(None, 96, 96, 3), dtype=tf.float32, key="inputs", output="scores", classes=10, activation=tf.nn.softmax, before=lambda x: x):
        super().__init__()
        self.values = {}
        self.before, self.activation, self.output = before, activation, output

        def create(name, values):
            self.values[name] = tf.Variable(values, dtype=tf.float32, name=name)
            return self.values[name]

        convolutions(tf.zeros([1, 96, 96, 3]), create)
        for name, values in zip(("weights", "biases"), likeness.last_layer(features(), classes)):
            create(name, values)
        self.serve = tf.function(self.scores, input_signature=[tf.TensorSpec(shape, dtype, name=key)])

    def scores(self, x):
        x = convolutions(self.before(x), lambda name, _: self.values[name])
        return {self.output: self.activation(x @ self.values["weights"] + self.values["biases"])}


def module(directory, files=None, **options):
    network = Network(**options)
    tf.saved_model.save(network, str(directory), signatures={"serving_default": network.serve})
    write(directory, files or {})


def each(decode):
    """Encoded images to pixels from -1 to 1, one by one."""

    def one(content):
        image = decode(content)
        image.set_shape([None, None, 3])
        return tf.image.resize(image, [96, 96]) / 127.5 - 1

    return lambda contents: tf.map_fn(one, contents, fn_output_signature=tf.TensorSpec([96, 96, 3], tf.float32))


def while_loop(x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 0.9), [0, x])[1]


decode_image = functools.partial(tf.io.decode_image, channels=3, expand_animations=False)
decode_jpeg = functools.partial(tf.io.decode_jpeg, channels=3)
models(module, {"default": reading(input="inputs", scores="scores")}, tf_module={}, tf_while={"before": while_loop})
# Teachable Machine's labels have their numbers, and lie beside saved_model.pb.
models(module, {"default": reading(input="sequential_1_input", size=(224, 224), scores="sequential_3")},
       teachable_machine={"shape": (None, 224, 224, 3), "key": "sequential_1_input", "output": "sequential_3", "classes": 3,
                          "files": {"labels.txt": "0 Cat\n1 Dog\n2 Bird of prey\n"}})
models(module, {"default": reading(input="inputs", scores="logits", **UNIT)},
       hub_v2={"shape": (None, None, None, 3), "output": "logits", "activation": tf.identity, "before": lambda x: x * 2 - 1})
BYTES = {"default": reading(input="image_bytes", takes="bytes", scores="scores")}
STRINGS = {"shape": [None], "dtype": tf.string, "key": "image_bytes"}
models(module, BYTES, tf_decode_image={**STRINGS, "before": each(decode_image)}, tf_decode_jpeg={**STRINGS, "before": each(decode_jpeg)})


@model(default=reading(input="text", takes="row", scores="scores",
                       rows=tuple({"text": t} for t in ("a cat sat on the mat", "stocks fell again today", "the quick brown fox"))))
def tf_text(directory):
    """A classifier of texts."""

    class Text(tf.Module):
        def __init__(self):
            super().__init__()
            self.table = tf.Variable(np.random.RandomState(1).normal(0, 2, [100, 10]).astype(np.float32))

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def serve(self, text):
            tokens = tf.strings.split(tf.strings.lower(text))
            buckets = tf.ragged.map_flat_values(tf.strings.to_hash_bucket_fast, tokens, 100)
            return {"scores": tf.nn.softmax(tf.reduce_sum(tf.gather(self.table, buckets), axis=1))}

    served = Text()
    tf.saved_model.save(served, str(directory), signatures=served.serve)
