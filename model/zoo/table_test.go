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
	{model: "b64_in"},
	{model: "b64_in", note: "key", yaml: "input: {key: b64}\n"},
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
	{model: "batch8", pixels: assumed},
	{model: "resnet_fixed64", pixels: assumed},
	{model: "dynamic", refused: `signature: signature "serving_default": input "images" has the shape [N, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "dynamic", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "dynamic_all", refused: `signature: signature "serving_default": input "images" has the shape [N, ?, ?, ?], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml, and layout: nchw if channels come first`},
	{model: "dynamic_all", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "unknown_rank", refused: `signature: signature "serving_default": input "images" has an unknown shape, which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml, and layout: nchw if channels come first`},
	{model: "unknown_rank", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "flat_input", refused: `signature: signature "serving_default": input "images" takes float32 [N, 27648], perhaps flat images of 96×96×3: write "input: {size: [96, 96]}" into DIR/1/assets.extra/inceptor.yaml, if so; if it takes rows of numbers, set --input.format tensor-json`},
	{model: "flat_input", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "unbatched", refused: `signature: signature "serving_default": input "image" takes float32 [96, 96, 3], one image without a batch; inceptor gives [N, height, width, channels]: export a signature with a batch, by tf.map_fn`},
	{model: "gray", pixels: assumed},
	{model: "nchw", pixels: assumed},
	{model: "uint8_in", pixels: graph},
	{model: "int32_in", pixels: graph},
	{model: "f16_in", pixels: assumed},
	{model: "f64_in", pixels: assumed},
	{model: "bf16_in", pixels: assumed},

	// Outputs.
	{model: "logits", pixels: assumed},
	{model: "sigmoid1", pixels: assumed},
	{model: "sigmoid_vec", pixels: assumed},
	{model: "out_unknown_shape", pixels: assumed},
	{model: "out_rank4", pixels: assumed},
	{model: "f64_out", pixels: assumed},
	{model: "f16_out", pixels: assumed},
	{model: "bf16_out", pixels: assumed},
	{model: "argmax_only", refused: `signature: signature "serving_default": output "classes", int64 [N], gives classes without their scores: export the scores as well, float32 [N, classes]; or write "outputs: [classes]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and no classes`},
	{model: "detection", refused: `signature: signature "serving_default": the outputs ["detection_boxes" "detection_classes" "detection_scores" "num_detections"] are those of an object detector, which has no scores for the classes of a whole image: write "outputs: [detection_boxes, detection_classes, detection_scores, num_detections]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with them as arrays`},
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
	{model: "keras_no_top", pixels: assumed}, // as if its features were scores
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
	{model: "keras_mixed_float16", pixels: assumed, within: 1e-3}, // it computes in float16, which has 11 bits
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
