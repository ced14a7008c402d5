"""Models that want their pixels made in a way that no graph tells: as slim, Caffe, PyTorch, Darknet and Keras make them.

Each is the small network, after what turns its pixels back to those from -1 to 1. The readings have
the libraries' own functions where there are some.
"""

import numpy as np
import tensorflow as tf

from answers import Reading
from modern import UNIT, WHOLE, mode, module, reading
from pixels import plain
from registry import models

TORCH_MEAN, TORCH_STD = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
CAFFE_MEAN = np.float32([103.939, 116.779, 123.68])  # blue first


def from_torch(x):
    return (x * TORCH_STD + TORCH_MEAN) * 2 - 1


def from_caffe(x):
    return tf.reverse((x + CAFFE_MEAN) / 127.5 - 1, [-1])


def from_bytes(x):
    return tf.cast(x, tf.float32) / 127.5 - 1


def from_unit(x):
    return x * 2 - 1


def modern(**options):
    return {"default": reading(input="inputs", scores="scores", **options)}


# Which part of the picture, and how it is made to fit.
models(plain, {"default": Reading(crop=0.875)}, slim_crop={})
models(plain, {"default": Reading(crop=0.5, **UNIT)}, crop_half={"before": from_unit})
models(plain, {"default": Reading(fit="pad")}, tf1_pad={})
models(module, modern(fit="pad", **UNIT), darknet_pad={"before": from_unit})
models(module, modern(fit="crop", **WHOLE), keras_smart_resize={"before": from_bytes})
models(module, modern(crop=0.875, fit="pad", size=(64, 128)), crop_pad={"shape": (None, 64, 128, 3)})
models(module, modern(crop=0.875, fit="crop", size=(128, 64)), crop_crop={"shape": (None, 128, 64, 3)})

# How it is resized.
models(module, modern(resize="nearest", **WHOLE), resize_nearest={"before": from_bytes})
models(module, modern(resize="bicubic"), resize_bicubic={})
models(module, modern(resize="area", **UNIT), resize_area={"before": from_unit})
models(plain, {"default": Reading(resize="nearest")}, tf1_nearest={})
models(plain, {"default": Reading(resize="bicubic")}, tf1_bicubic={})
models(plain, {"default": Reading(resize="area")}, tf1_area={})
models(plain, {"default": Reading(align_corners=True)}, align_corners={})
models(plain, {"default": Reading(resize="bicubic", align_corners=True)}, align_corners_bicubic={})
models(module, modern(fit="pad", resize="bicubic"), pad_bicubic={})
models(module, modern(fit="pad", resize="nearest", **WHOLE), pad_nearest={"before": from_bytes})
models(module, modern(fit="crop", resize="bicubic"), crop_bicubic={})
models(module, modern(fit="crop", resize="area"), crop_area={})

# Which numbers its pixels become.
models(module, modern(preprocess=mode("caffe")), caffe_bgr={"before": from_caffe})
models(module, modern(preprocess=mode("torch")), torch_mean={"before": from_torch})
models(module, modern(preprocess=mode("tf")), tf_mode={})
models(module, modern(channels="bgr", **UNIT), bgr_unit={"before": lambda x: from_unit(tf.reverse(x, [-1]))})
models(module, modern(channels="bgr", scale=1, offset=[-104, -117, -123]),
       bgr_offset={"before": lambda x: tf.reverse((x + [104.0, 117, 123]) / 127.5 - 1, [-1])})
models(plain, {"default": Reading(scale=1, offset=[-123.68, -116.78, -103.94])},
       vgg_mean={"before": lambda x: (x + [123.68, 116.78, 103.94]) / 127.5 - 1})
models(module, modern(scale=[1 / 64, 1 / 128, 1 / 255], offset=[0.5, -0.25, 0]),
       scale_list={"before": lambda x: (x - [0.5, -0.25, 0]) * ([64 / 127.5, 128 / 127.5, 2]) - 1})

# What comes out of PyTorch by way of ONNX: channels first, torchvision's preprocessing, logits.
models(module, {"default": reading(input="input", scores="output", activation=tf.nn.softmax, nchw=True, crop=0.875, preprocess=mode("torch"))},
       onnx={"key": "input", "output": "output", "shape": (None, 3, 96, 96), "activation": tf.identity,
             "before": lambda x: from_torch(tf.transpose(x, [0, 2, 3, 1]))})
models(module, {"default": reading(input="input", scores="output", activation=tf.nn.softmax, nchw=True, resize="bicubic", fit="crop")},
       onnx_timm={"key": "input", "output": "output", "shape": (1, 3, 96, 96), "activation": tf.identity,
                  "before": lambda x: tf.transpose(x, [0, 2, 3, 1])})
models(module, {"default": reading(input="input", scores="scores", nchw=True, channels="bgr", **WHOLE)},
       openvino={"key": "input", "shape": (None, 3, 96, 96), "before": lambda x: tf.reverse(tf.transpose(x, [0, 2, 3, 1]) / 127.5 - 1, [-1])})

# Layouts that the shape does not tell.
models(plain, {"default": Reading(nchw=True)},
       nchw_unknown={"shape": (None,) * 4, "before": lambda x: tf.transpose(tf.reshape(x, [-1, 3, 96, 96]), [0, 2, 3, 1])},
       nchw_dynamic={"shape": (None, 3, None, None), "before": lambda x: tf.transpose(x, [0, 2, 3, 1])},
       nchw_no_rank={"shape": None, "before": lambda x: tf.transpose(tf.reshape(x, [-1, 3, 96, 96]), [0, 2, 3, 1])})
models(plain, {"default": Reading(nchw=True, **WHOLE)},
       nchw_uint8={"shape": (None, 3, 96, 96), "dtype": tf.uint8, "before": lambda x: tf.transpose(x, [0, 2, 3, 1]) / 127.5 - 1})
# A square of as many channels as rows tells nothing.
models(plain, {"default": Reading(size=(3, 3), apart=1e-3)}, tiny_square={"shape": (None, 3, 3, 3)})

# One channel.
GRAY = {"channels": "gray", "size": (28, 28)}


def tile(x):
    return tf.tile(x, [1, 1, 1, 3])


models(plain, {"default": Reading(**GRAY)}, gray={"shape": (None, 28, 28, 1), "before": tile})
models(plain, {"default": Reading(**GRAY, **WHOLE)},
       gray_uint8={"shape": (None, 28, 28, 1), "dtype": tf.uint8, "before": lambda x: tile(from_bytes(x))})
models(plain, {"default": Reading(**GRAY, nchw=True, scale=1 / 255, offset=0)},
       gray_nchw={"shape": (None, 1, 28, 28), "before": lambda x: tile(tf.transpose(x, [0, 2, 3, 1]) * 2 - 1)})
models(plain, {"default": Reading(**GRAY, fit="crop", resize="area")},
       gray_dynamic={"shape": (None, None, None, 1), "before": tile})
models(plain, {"default": Reading(**GRAY)},
       gray_unknown={"shape": (None,) * 4, "before": lambda x: tile(tf.reshape(x, [-1, 28, 28, 1]))})
models(plain, {"default": Reading(**GRAY, shape=lambda x: x[..., 0])},
       gray_flat={"shape": (None, 28, 28), "before": lambda x: tile(x[..., tf.newaxis])})
