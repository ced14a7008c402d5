//go:build !race

package zoo

import "inceptor/model"

// Where the scale of pixels is from.
const (
	assumed = "assumed"
	graph   = "graph"
	given   = "inceptor.yaml"
)

var specimens = []specimen{
	// The classic Inception, and its relatives: encoded images, class words.
	{model: "classic", reading: "classify"},
	{model: "classic", note: "predict", yaml: "signature: predict_images\n", reading: "predict"},
	{model: "classic_resource", reading: "classify"},
	{model: "classic_resource", note: "predict", yaml: "signature: predict_images\n", reading: "predict"},
	{model: "classic_v3", reading: "classify"},
	{model: "classic_v3", note: "predict", yaml: "signature: predict_images\n", reading: "predict"},
	{model: "classic_decode_image", reading: "predict"}, // the only signature
	{model: "classic_decode_image", note: "predict", yaml: "signature: predict_images\n", reading: "predict"},
	{model: "flowers"},
	{model: "automl"},
	{model: "resnet_jpg"},
	{model: "estimator_bytes", reading: "classify"},
	{model: "estimator_bytes", note: "predict", yaml: "signature: predict\n", reading: "predict"},
	{model: "estimator_example", reading: "classify"},
	{model: "estimator_example", note: "predict", yaml: "signature: predict\n", reading: "predict"},
	{model: "bytes_jpeg"},
	{model: "png_only"},
	{model: "bytes_crop"},
	{model: "b64_in", refused: `signature: signature "serving_default": input "b64" takes strings, and the graph decodes no images from them: write "input: {key: b64}" into DIR/1/assets.extra/inceptor.yaml, if they are encoded images all the same; texts are records of --input.format tensor-json`},
	{model: "b64_in", note: "key", yaml: "input: {key: b64}\n", refusedLike: `(jpeg, png, gif, bmp of 640×480: batch of 1: invalid argument: Invalid character found in base64.`},
	{model: "scalar_bytes", refused: `signature: signature "serving_default": input "image" takes one string and no batch: export the signature with strings of shape [N], by tf.map_fn`},

	// tf.Examples and rows of numbers.
	{model: "estimator_dnn", content: model.Examples, reading: "classify"},
	{model: "estimator_dnn", note: "predict", content: model.Examples, yaml: "signature: predict\noutput: {scores: probabilities, classes: all_classes}\n", reading: "predict"},
	{model: "estimator_dnn", note: "images", refused: `signature: signature "serving_default": input "inputs" takes tf.Examples, and the graph decodes no image from their features ["a"]: set --input.format example, where the records are tf.Examples`},
	{model: "estimator_raw", content: model.Rows, reading: "predict"}, // the only signature
	{model: "estimator_raw", note: "yaml", content: model.Rows, yaml: "signature: predict\noutput: {scores: probabilities, classes: all_classes}\n", reading: "predict"},
	{model: "estimator_raw", note: "images", refused: `signature: signature "predict": input "a" takes rows of 4 numbers, not images: set --input.format tensor-json`},
	{model: "text", refused: `signature: signature "serving_default": input "text" takes strings, and the graph decodes no images from them: write "input: {key: text}" into DIR/1/assets.extra/inceptor.yaml, if they are encoded images all the same; texts are records of --input.format tensor-json`},
	{model: "tf_text", refused: `signature: signature "serving_default": input "text" takes strings, and the graph decodes no images from them: write "input: {key: text}" into DIR/1/assets.extra/inceptor.yaml, if they are encoded images all the same; texts are records of --input.format tensor-json`},

	// Variables, control flow.
	{model: "tf1_ref", pixels: assumed},
	{model: "tf1_resource", pixels: assumed},
	{model: "partitioned", pixels: assumed},
	{model: "partitioned_resource", pixels: assumed},
	{model: "sharded", pixels: assumed},
	{model: "sharded_devices", pixels: assumed},
	{model: "tf1_while", pixels: assumed},
	{model: "tf1_cond", pixels: assumed},
	{model: "keep_prob", pixels: assumed},
	{model: "fixed_inputs", refused: `signature: signature "serving_default": the model also needs the inputs "dropout_keep" float32 [], "phase" bool [N], and the graph has no default for them: write "inputs: {dropout_keep: VALUE, phase: VALUE}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "fixed_inputs", note: "yaml", yaml: "inputs: {dropout_keep: 1, phase: false}\n", pixels: assumed},

	// Tags, forms of saved_model.pb.
	{model: "two_graphs", pixels: assumed},
	{model: "serve_and_servegpu", pixels: assumed},
	{model: "tags_gpu", pixels: assumed},
	{model: "tags_none", pixels: assumed},
	{model: "tags_train", refused: `signature: DIR/1/saved_model.pb: every graph of the model is for training, where answers may differ from run to run: it has one with the tag "train"; export one for serving, with tags=["serve"]; write "tags: [train]" into DIR/1/assets.extra/inceptor.yaml, if it is for serving all the same`},
	{model: "tags_train", note: "yaml", yaml: "tags: [train]\n", pixels: assumed},
	{model: "pbtxt", refusedLike: `complete: saved_model.pb: does not exist; saved_model.pbtxt does, which inceptor does not read: convert it, where Python has TensorFlow: cd DIR/1 && python3 -c "`},
	{model: "hub_v1", refused: `signature: no signature "serving_default", only ["default" "image_classification"]: write "signature: default" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "hub_v1", note: "yaml", yaml: "signature: image_classification\n", reading: "logits", pixels: graph},

	// Shapes and types of the input.
	{model: "batch1", pixels: assumed},
	{model: "batch8", refused: `signature: signature "serving_default": input "images" takes batches of exactly 8: export it with a batch of None`},
	{model: "resnet_fixed64", refused: `signature: signature "serving_default": input "input" takes batches of exactly 64: export it with a batch of None`},
	{model: "dynamic", refused: `signature: signature "serving_default": input "images" has the shape [N, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "dynamic", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "dynamic_all", refused: `signature: signature "serving_default": input "images" has the shape [N, ?, ?, ?], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "dynamic_all", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "unknown_rank", refused: `signature: signature "serving_default": input "images" takes float32 of unknown shape; inceptor gives [N, height, width, 3]: export it with the shape [None, HEIGHT, WIDTH, 3]`},
	{model: "flat_input", refused: `signature: signature "serving_default": input "images" takes float32 [N, 27648], perhaps flat images of 96×96×3; inceptor gives [N, height, width, 3]: export a signature that flattens them with tf.reshape(images, [-1, 27648]); if it takes rows of numbers, set --input.format tensor-json`},
	{model: "unbatched", refused: `signature: signature "serving_default": input "image" takes float32 [96, 96, 3], one image without a batch; inceptor gives [N, height, width, 3]: export a signature with a batch, by tf.map_fn`},
	{model: "gray", refused: `signature: signature "serving_default": input "images" takes float32 [N, 28, 28, 1], gray images; inceptor gives [N, height, width, 3]: export a signature that makes them gray, with tf.image.rgb_to_grayscale(images)`},
	{model: "nchw", refused: `signature: signature "serving_default": input "images" takes float32 [N, 3, 96, 96], channels first; inceptor gives [N, height, width, 3]: export a signature that transposes, with tf.transpose(images, [0, 3, 1, 2])`},
	{model: "uint8_in", pixels: graph},
	{model: "int32_in", refused: `signature: signature "serving_default": input "images" takes int32 [N, 96, 96, 3]; inceptor makes float32 and uint8 pixels: export a signature that takes float32 and casts, with tf.cast(images, tf.int32)`},
	{model: "f16_in", refused: `signature: signature "serving_default": input "images" takes float16 [N, 96, 96, 3]; inceptor makes float32 and uint8 pixels: export a signature that takes float32 and casts, with tf.cast(images, tf.float16)`},
	{model: "f64_in", refused: `signature: signature "serving_default": input "images" takes float64 [N, 96, 96, 3]; inceptor makes float32 and uint8 pixels: export a signature that takes float32 and casts, with tf.cast(images, tf.float64)`},
	{model: "bf16_in", refused: `signature: signature "serving_default": input "images" takes bfloat16 [N, 96, 96, 3]; inceptor makes float32 and uint8 pixels: export a signature that takes float32 and casts, with tf.cast(images, tf.bfloat16)`},

	// Outputs.
	{model: "logits", pixels: assumed},
	{model: "sigmoid1", pixels: assumed},
	{model: "sigmoid_vec", refused: `signature: signature "serving_default": output "scores" has the shape [N]; want [N, classes]: export the signature with tf.reshape(scores, [-1, 1])`},
	{model: "out_unknown_shape", pixels: assumed},
	{model: "out_rank4", refused: `signature: signature "serving_default": output "scores" has the shape [N, 1, 1, 10]; want [N, classes]: export the signature with tf.reshape(scores, [-1, 10])`},
	{model: "f64_out", refused: `signature: signature "serving_default": output "scores" is float64 [N, 10]; scores must be float32: export the signature with tf.cast(scores, tf.float32)`},
	{model: "f16_out", refused: `signature: signature "serving_default": output "scores" is float16 [N, 10]; scores must be float32: export the signature with tf.cast(scores, tf.float32)`},
	{model: "bf16_out", refused: `signature: signature "serving_default": output "scores" is bfloat16 [N, 10]; scores must be float32: export the signature with tf.cast(scores, tf.float32)`},
	{model: "argmax_only", refused: `signature: signature "serving_default": output "classes", int64 [N], gives classes without their scores: export the scores as well, float32 [N, classes]`},
	{model: "detection", refused: `signature: signature "serving_default": the outputs ["detection_boxes" "detection_classes" "detection_scores" "num_detections"] are those of an object detector, and an answer has the classes of a whole image: export a classifier`},
	{model: "top5_ids", pixels: assumed},
	{model: "top5_alone", refused: `signature: signature "serving_default": output "scores": labels: 20 lines for 5 classes; if these are the best 5 of 20 classes, the signature must also give which ones, as strings or int64 in an output of the scores' shape`},
	{model: "slim_v3", reading: "predictions", pixels: assumed}, // rather than the logits
	{model: "slim_v3", note: "logits", yaml: "output: logits\n", reading: "logits", pixels: assumed},

	// What is not a number.
	{model: "nan_weights", refused: `load: load DIR/1: variable "net/conv1/weights" has NaN at element 0 of [3, 3, 8, 16]: the model has diverged; publish a version with finite weights`},
	{model: "nan_batch_norm", refused: `load: load DIR/1: variable "net/conv1/gamma" has NaN at element 0 of [16]: the model has diverged; publish a version with finite weights`},
	{model: "standardize", pixels: assumed, not: "black.png"},

	// Keras 3 and TensorFlow 2.
	{model: "keras_inception_v3", pixels: assumed},
	{model: "keras_mobilenet_v2", pixels: assumed},
	{model: "keras_mobilenet_v3", pixels: graph},
	{model: "keras_efficientnet", pixels: graph},
	{model: "keras_no_top", pixels: assumed},
	{model: "keras_sequential", pixels: graph},
	{model: "keras_rescaling_255", pixels: graph},
	{model: "keras_rescaling_127", pixels: graph},
	{model: "keras_nested", pixels: graph},
	{model: "keras_preprocess_input", pixels: graph},
	{model: "keras_normalization", pixels: graph},
	{model: "keras_caffe", pixels: graph},
	{model: "keras_uint8", pixels: graph},
	{model: "keras_minus_half", pixels: graph},
	{model: "keras_plain", pixels: assumed},
	{model: "keras_sigmoid", pixels: assumed},
	{model: "keras_mixed_float16", refused: `signature: signature "serving_default": output "output_0" is float16 [N, 10]; scores must be float32: export the signature with tf.cast(output_0, tf.float32)`},
	{model: "keras_dynamic", refused: `signature: signature "serving_default": input "image" has the shape [N, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "keras_dynamic", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	// TensorFlow's own loader for C does not find the variables of what tf.saved_model.save makes
	// of a Keras 3 model.
	{model: "keras_saved", refused: `signature: signature "serving_default": TensorFlow's loader has no value for the variable "batch_normalization/beta": Keras 3 models must be written by model.export(DIR), not tf.saved_model.save`},
	{model: "keras_two_outputs", refused: `signature: signature "serving_default": its outputs do not tell which one has the scores: it has "output_0" float32 [N, 10], "output_1" float32 [N, 3]; write "output: output_0" into DIR/1/assets.extra/inceptor.yaml, or whichever has them`},
	{model: "keras_two_outputs", note: "first", yaml: "output: output_0\n", reading: "first", pixels: graph},
	{model: "keras_two_outputs", note: "second", yaml: "output: output_1\n", reading: "second", pixels: graph},
	{model: "keras_dict", refused: `signature: signature "serving_default": its outputs do not tell which one has the scores: it has "features" float32 [N, 32], "probabilities" float32 [N, 10]; write "output: probabilities" into DIR/1/assets.extra/inceptor.yaml, or whichever has them`},
	{model: "keras_dict", note: "probabilities", yaml: "output: probabilities\n", reading: "probabilities", pixels: graph},
	{model: "teachable_machine", pixels: assumed},
	{model: "tf_module", pixels: assumed},
	{model: "tf_while", pixels: assumed},
	{model: "hub_v2", refused: `signature: signature "serving_default": input "inputs" has the shape [N, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "hub_v2", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: graph},
	{model: "tf_decode_image"},
	{model: "tf_decode_jpeg"},
}
