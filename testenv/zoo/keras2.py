"""Models of Keras 2, as model.save wrote them."""

import tensorflow as tf
import tf_keras

import likeness
from modern import UNIT, WHOLE, reading, settle
from registry import models

layers = tf_keras.layers


def body(x, classes=10):
    for filters in 8, 16, 32:
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    return layers.Dense(classes, activation="softmax", name="scores")(layers.GlobalAveragePooling2D()(x))


def functional(before=lambda x: x, classes=10):
    image = layers.Input((96, 96, 3), name="image")
    return tf_keras.Model(image, body(before(image), classes))


def sequential():
    return tf_keras.Sequential([
        layers.Input((96, 96, 3), name="image"), layers.Rescaling(1 / 255), layers.Conv2D(8, 3, strides=2, activation="relu"), layers.MaxPooling2D(),
        layers.Conv2D(16, 3, activation="relu"), layers.MaxPooling2D(), layers.Flatten(), layers.Dropout(0.2), layers.Dense(10, activation="softmax")])


def transfer():
    """A base that was trained by others, and a head on it."""
    image = layers.Input((96, 96, 3))
    x = image
    for filters in 8, 16, 32:
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization()(x))
    base = tf_keras.Model(image, layers.GlobalAveragePooling2D()(x))
    settle(base, (96, 96), -1, 1, keras=tf_keras)
    image = layers.Input((96, 96, 3), name="image")
    x = base(layers.Rescaling(1 / 127.5, -1)(image), training=False)
    return tf_keras.Model(image, layers.Dense(5, activation="softmax", name="scores")(layers.Dropout(0.2)(x)))


def saved(directory, make, low=0, high=255, compiled=False, how="save"):
    tf_keras.backend.clear_session()
    tf_keras.utils.set_random_seed(1)
    network = make()
    settle(network, (96, 96), low, high, keras=tf_keras)
    if compiled:
        network.compile("adam", "sparse_categorical_crossentropy")
        photos = likeness.pictures((96, 96), low, high)
        network.optimizer.learning_rate = 0.0
        network.fit(photos, tf.zeros(len(photos)), epochs=1, verbose=0)
        network.optimizer.learning_rate = 1e-3
    getattr(network, how)(str(directory), **{"save_format": "tf"} if how == "save" else {})


def keras2(scores="scores", **options):
    return {"default": reading(input="image", scores=scores, **options)}


models(saved, keras2(), keras2_plain={"make": functional, "low": -1, "high": 1})
models(saved, keras2(**UNIT), keras2_compiled={"make": lambda: functional(lambda x: x * 2 - 1), "low": 0, "high": 1, "compiled": True})
models(saved, keras2("dense", **WHOLE), keras2_sequential={"make": sequential})
models(saved, keras2(**WHOLE), keras2_transfer={"make": transfer})
models(saved, keras2("output_0", **WHOLE), keras2_export={"make": lambda: functional(layers.Rescaling(1 / 255)), "how": "export"})
