"""Models of Keras 3 and TensorFlow 2 as people export them."""

import functools
import unittest.mock

import keras
import numpy as np
import tensorflow as tf
from keras.src.applications import densenet as apps_densenet, resnet as apps_resnet
from keras.src.backend.tensorflow.export import TFExportArchive

import likeness
from answers import Reading
from graphs import convolutions, features, write
from registry import model, models
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

layers = keras.layers
WHOLE = {"scale": 1, "offset": 0}  # pixels from 0 to 255, as the model scales them itself
UNIT = {"scale": 1 / 255, "offset": 0}  # from 0 to 1


def reading(**options):
    return Reading(**{"modern": True, "half_pixel_centers": True, "scores": "output_0"} | options)


def begin():
    """Keras counts its names and random numbers anew."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)


def settle(network, size, low, high, like=None, keras=keras):
    """Gives batch norms means and variances that fit the random weights, and the last dense layers weights that fit those.

    like(pictures) has the pictures in the form that the network takes.
    """
    pictures = likeness.pictures(size, low, high)
    pictures = (like(pictures) if like else pictures).astype(tf.as_dtype(network.inputs[0].dtype).as_numpy_dtype)
    for part in network._flatten_layers():
        if isinstance(part, keras.layers.BatchNormalization):
            part.momentum = 0.0
    network(pictures, training=True)
    for i, part in enumerate(network.layers):
        if isinstance(part, keras.layers.Dense):
            features = keras.Model(network.inputs, part.input).predict(pictures, verbose=0).astype(np.float32)
            kernel, bias = likeness.last_layer(features, part.units, i)
            part.set_weights([kernel, bias])


def export(directory, network, size=(96, 96), low=-1, high=1):
    settle(network, size, low, high)
    network.export(str(directory), verbose=False)


def application(directory, make, size, low=-1, high=1, **options):
    """A network of keras.applications, without the lists of variables that export adds: they double the files."""
    begin()
    with unittest.mock.patch.object(TFExportArchive, "_backend_track_layer", lambda *_: None):
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


def resnet(**options):
    """ResNet50 in small: one block of each size, as many channels as a fourth."""

    def stack(x):
        for i, filters in enumerate((16, 32, 64, 128)):
            x = apps_resnet.stack_residual_blocks_v1(x, filters, 1, 1 if i == 0 else 2, name=f"conv{i + 2}")
        return x

    return apps_resnet.ResNet(stack, False, True, weights_name="resnet", **options)


def densenet(**options):
    return apps_densenet.DenseNet([2, 2, 2, 2], **options)


def mode(name):
    """preprocess_input of Keras' models: caffe, torch or tf."""
    return lambda x: keras.applications.imagenet_utils.preprocess_input(x, data_format="channels_last", mode=name)


SMALL = {"size": (96, 96), "input_shape": (96, 96, 3), "classes": 10}
models(application, {"default": reading(input="", preprocess=mode("caffe"))}, keras_resnet={"make": resnet, "low": -120, "high": 130, **SMALL})
models(application, {"default": reading(input="", preprocess=mode("torch"))},
       keras_densenet={"make": densenet, "low": -2, "high": 2.5, **SMALL})


def body(x, classes=10, activation="softmax", name="scores"):
    for filters in 8, 16, 32:
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D()(x)
    return x, layers.Dense(classes, activation=activation, name=name)(x)


def small(directory, before=lambda x: x, low=0, high=255, shape=(96, 96, 3), dtype="float32", after=lambda x, y: y, classes=10,
          activation="softmax", policy="float32", how="export", batch=None, like=None):
    """A small network with something before it and after it."""
    begin()
    keras.config.set_dtype_policy(policy)
    try:
        image = layers.Input(shape, batch, dtype, name="image")
        features, scores = body(before(image), classes, activation)
        network = keras.Model(image, after(features, scores))
    finally:
        keras.config.set_dtype_policy("float32")
    settle(network, (96, 96), low, high, like)
    if how == "export":
        network.export(str(directory), verbose=False)
    else:
        tf.saved_model.save(network, str(directory))


def caffe(x):
    """Blue first, and without each channel's mean."""
    return layers.Lambda(lambda x: x[..., ::-1] - tf.constant([103.939, 116.779, 123.68]), output_shape=lambda s: s)(x)


def last_map(features):
    """What the layers before the mean make, [N, 3, 3, 32]."""
    return layers.AveragePooling2D(4)(features._keras_history.operation.input)


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
       keras_mixed_float16={"low": -1, "high": 1, "policy": "mixed_float16"},
       keras_mixed_bfloat16={"low": -1, "high": 1, "policy": "mixed_bfloat16"},
       keras_dynamic={"low": -1, "high": 1, "shape": (None, None, 3)},
       keras_batch8={"low": -1, "high": 1, "batch": 8})
models(small, {"default": reading(**IMAGE), "pair": reading(**IMAGE, pair=True)},
       keras_sigmoid={"low": -1, "high": 1, "classes": 1, "activation": "sigmoid"})
models(small, {"default": reading(**IMAGE), "features": reading(**IMAGE, scores="", outputs=("output_0",))},
       keras_no_top={"low": -1, "high": 1, "after": lambda x, y: x})
models(small, {"default": reading(**IMAGE, scores="", outputs=("output_0",))},
       keras_no_top_4d={"low": -1, "high": 1, "after": lambda x, y: last_map(x)})
models(small, {"default": reading(**IMAGE, nchw=True)},
       keras_permute={"low": -1, "high": 1, "shape": (3, 96, 96), "before": layers.Permute((2, 3, 1)), "like": lambda x: x.transpose(0, 3, 1, 2)})
models(small, {"default": reading(**IMAGE, channels="gray", size=(28, 28), scale=1 / 255, offset=0)},
       keras_gray={"low": 0, "high": 1, "shape": (28, 28, 1), "like": lambda x: tf.image.resize(x, (28, 28)).numpy()[..., :1],
                   "before": lambda x: layers.Concatenate()([x, x, x])})
models(small, {"default": reading(**IMAGE)},
       keras_float16={"low": -1, "high": 1, "policy": "float16", "dtype": "float16"},
       keras_float64={"low": -1, "high": 1, "policy": "float64", "dtype": "float64"})
models(small, {"default": reading(**IMAGE, activation=tf.nn.softmax)}, keras_logits={"low": -1, "high": 1, "activation": None})
models(small, {"default": reading(**IMAGE, activation=tf.sigmoid)}, keras_multi_label={"low": -1, "high": 1, "activation": None})
models(small, {"default": reading(**IMAGE, **WHOLE)},
       keras_augmented={"before": lambda x: layers.Rescaling(1 / 255)(layers.RandomFlip()(x, training=False))})
models(small, {"default": reading(input="")}, keras_saved={"low": -1, "high": 1, "how": "save"})
models(small, {"first": reading(**IMAGE, **WHOLE), "second": reading(scores="output_1", **IMAGE, **WHOLE)},
       keras_two_outputs={"before": layers.Rescaling(1 / 255), "after": lambda x, y: [y, layers.Dense(3, activation="softmax")(x)]})
models(small, {"probabilities": reading(scores="probabilities", **IMAGE, **WHOLE),
               "both": reading(scores="probabilities", outputs=("features",), **IMAGE, **WHOLE)},
       keras_dict={"before": layers.Rescaling(1 / 255), "after": lambda x, y: {"probabilities": y, "features": x}})


@model(default=reading(input="", nchw=True))
def keras_channels_first(directory):
    """As Keras on Theano had it: TensorFlow has no such convolution for processors."""
    begin()
    first = {"data_format": "channels_first"}
    network = keras.Sequential([
        layers.Input((3, 96, 96)), layers.Conv2D(8, 3, strides=2, activation="relu", **first), layers.BatchNormalization(axis=1),
        layers.MaxPooling2D(**first), layers.Conv2D(16, 3, activation="relu", **first), layers.GlobalAveragePooling2D(**first),
        layers.Dense(10, activation="softmax")])
    settle(network, (96, 96), -1, 1, lambda x: x.transpose(0, 3, 1, 2))
    network.export(str(directory), verbose=False)


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


def on_gpu(x):
    with tf.device("/gpu:0"):
        return x * 0.9


def while_loop(x):
    return tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 0.9), [0, x])[1]


decode_image = functools.partial(tf.io.decode_image, channels=3, expand_animations=False)
decode_jpeg = functools.partial(tf.io.decode_jpeg, channels=3)
models(module, {"default": reading(input="inputs", scores="scores")}, tf_module={}, tf_while={"before": while_loop},
       tf_cond={"before": lambda x: tf.cond(tf.reduce_max(x) > 2, lambda: x / 127.5 - 1, lambda: x)},
       tf_jit={"before": tf.function(lambda x: x * 0.9, jit_compile=True)},
       tf_random={"before": lambda x: x + 0 * tf.random.uniform(tf.shape(x))},
       tf_fake_quant={"before": lambda x: tf.quantization.fake_quant_with_min_max_args(x, -1, 1)},
       tf_gpu={"before": on_gpu})
# Teachable Machine's labels have their numbers, and lie beside saved_model.pb.
models(module, {"default": reading(input="sequential_1_input", size=(224, 224), scores="sequential_3")},
       teachable_machine={"shape": (None, 224, 224, 3), "key": "sequential_1_input", "output": "sequential_3", "classes": 3,
                          "files": {"labels.txt": "0 Cat\n1 Dog\n2 Bird of prey\n"}})
models(module, {"default": reading(input="inputs", scores="logits", **UNIT)},
       hub_v2={"shape": (None, None, None, 3), "output": "logits", "activation": tf.identity, "before": lambda x: x * 2 - 1})
BYTES = {"default": reading(input="image_bytes", takes="bytes", scores="scores")}
STRINGS = {"shape": [None], "dtype": tf.string, "key": "image_bytes"}
models(module, BYTES, tf_decode_image={**STRINGS, "before": each(decode_image)}, tf_decode_jpeg={**STRINGS, "before": each(decode_jpeg)})


@model(default=reading(input="inputs", scores="scores"))
def tf_frozen(directory):
    """Weights that are constants."""
    serve = convert_variables_to_constants_v2(Network().serve.get_concrete_function())
    frozen = tf.Module()
    frozen.serve = tf.function(lambda inputs: {"scores": serve(inputs)[0]}, input_signature=[tf.TensorSpec((None, 96, 96, 3), tf.float32, name="inputs")])
    tf.saved_model.save(frozen, str(directory), signatures=frozen.serve)


@model(default=reading(input="inputs", scores="scores"))
def tf_counter(directory):
    """One that counts its runs."""

    class Counting(Network):
        def scores(self, x):
            self.runs.assign_add(1)
            return super().scores(x)

    network = Counting()
    network.runs = tf.Variable(0, dtype=tf.int64)
    tf.saved_model.save(network, str(directory), signatures={"serving_default": network.serve})


@model()
def keras_h5(directory):
    """What model.save("model.h5") writes, in place of a SavedModel."""
    keras_file(directory, "model.h5")


def keras_file(directory, name):
    begin()
    directory.mkdir(parents=True)
    image = layers.Input((96, 96, 3), name="image")
    keras.Model(image, body(image)[1]).save(directory / name)


@model()
def keras_native(directory):
    keras_file(directory, "model.keras")


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
