//go:build !race

package zoo

import (
	"fmt"
	"maps"
	"strings"

	"inceptor/model/infer"
)

// The origins of the pixels' scale.
const (
	assumed = "assumed"
	graph   = "graph"
	given   = "inceptor.yaml"
)

// thing returns the label of a class in the specimens' files.
func thing(index int) string { return fmt.Sprintf("thing %d", index) }

// afterBackground returns it if class 0 is the background, which has no label.
func afterBackground(index int) string {
	if index == 0 {
		return ""
	}
	return thing(index - 1)
}

func labels(names ...string) map[string]string {
	return map[string]string{"assets/labels.txt": strings.Join(names, "\n") + "\n"}
}

// lines returns a file with a line for each of ten classes, by a format of the class.
func lines(file, format string) map[string]string { return map[string]string{file: each(format, "")} }

func jsonLabels(file, format string) map[string]string {
	return map[string]string{file: "{" + each(format, ", ") + "}"}
}

func each(format, between string) string {
	all := make([]string, 10)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}
	return strings.Join(all, between)
}

func merged(a, b map[string]string) map[string]string {
	maps.Copy(a, b)
	return a
}

var specimens = []specimen{
	// The classic Inception, and its relatives: encoded images, class words.
	{model: "classic", reading: "classify"},
	{model: "classic", note: "predict", yaml: "signature: predict_images\n", reading: "predict"},
	{model: "classic_resource", reading: "classify"},
	{model: "classic_resource", note: "predict", yaml: "signature: predict_images\n", reading: "predict"},
	{model: "classic_v3", reading: "classify"},
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
	{model: "scalar_bytes", refused: `signature: signature "serving_default": input "image" takes one string and no batch: export the signature with strings of shape [N], by tf.map_fn`},

	// tf.Examples and rows of numbers.
	{model: "estimator_dnn", content: infer.Examples, reading: "classify"},
	{model: "estimator_dnn", note: "predict", content: infer.Examples, yaml: "signature: predict\noutput: {scores: probabilities, classes: all_classes}\n", reading: "predict"},
	{model: "estimator_dnn", note: "images", refused: `signature: signature "serving_default": input "inputs" takes tf.Examples, and the graph decodes no image from their features ["a"]: set --input.format example, if the records are tf.Examples`},
	{model: "estimator_raw", content: infer.Rows, reading: "predict"}, // the only signature
	{model: "estimator_raw", note: "yaml", content: infer.Rows, yaml: "signature: predict\noutput: {scores: probabilities, classes: all_classes}\n", reading: "predict"},
	{model: "estimator_raw", note: "images", refused: `signature: signature "predict": input "a" takes rows of 4 numbers, not images: set --input.format tensor-json`},
	{model: "half_plus_two", content: infer.Rows, reading: "predict"},
	{model: "half_plus_two", note: "regress", content: infer.Examples, yaml: "signature: regress_x_to_y\n", reading: "regress"},
	{model: "half_plus_two", note: "classify", content: infer.Examples, yaml: "signature: classify_x_to_y\n", reading: "classify"},
	{model: "half_plus_two", note: "images", refused: `signature: signature "serving_default": input "x" takes rows of 1 numbers, not images: set --input.format tensor-json`},
	{model: "half_plus_two_main_op", content: infer.Rows, reading: "predict"},
	{model: "half_plus_two_gpu", content: infer.Rows, reading: "predict"},
	{model: "half_plus_two_tf2", content: infer.Rows},
	{model: "half_plus_three", content: infer.Rows, refused: `signature: signature "serving_default": input "x" is float32 of unknown shape; rows need [N, …]: export it with a batch of None`},
	{model: "matrix_half_plus_two", content: infer.Rows, refused: `signature: signature "serving_default": output "y" has the shape [N, 3, 3]; want [N, n] or [N]: export the signature with tf.reshape(y, [-1, 9]); or write "outputs: [y]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes`},
	{model: "matrix_half_plus_two", note: "outputs", content: infer.Rows, yaml: "outputs: [y]\n"},
	{model: "mnist", content: infer.Rows, yaml: "signature: predict_images\n", reading: "predict"},
	{model: "mnist", note: "classify", content: infer.Examples, reading: "classify"},
	{model: "rows_float", content: infer.Rows},
	{model: "rows_int", content: infer.Rows},
	{model: "rows_uint", content: infer.Rows},
	{model: "rows_batch4", content: infer.Rows},
	{model: "text_column", content: infer.Rows},
	{model: "text", refused: `signature: signature "serving_default": input "text" takes strings, and the graph decodes no images from them: write "input: {key: text}" into DIR/1/assets.extra/inceptor.yaml, if they are encoded images all the same; for texts, set --input.format tensor-json`},
	{model: "tf_text", refused: `signature: signature "serving_default": input "text" takes strings, and the graph decodes no images from them: write "input: {key: text}" into DIR/1/assets.extra/inceptor.yaml, if they are encoded images all the same; for texts, set --input.format tensor-json`},

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
	{model: "tags_gpu", note: "tags", yaml: "tags: [gpu, serve]\n", pixels: assumed},
	{model: "tags_none", pixels: assumed},
	{model: "tags_none", note: "tags", yaml: "tags: []\n", pixels: assumed},
	{model: "tags_train", refused: `signature: DIR/1/saved_model.pb: every graph of the model is for training, where answers may differ from run to run: it has one with the tag "train"; export one for serving, with tags=["serve"]; write "tags: [train]" into DIR/1/assets.extra/inceptor.yaml, if it is for serving all the same`},
	{model: "tags_train", note: "tags", yaml: "tags: [train]\n", pixels: assumed},
	{model: "tags_other", pixels: assumed},
	{model: "tags_eval", pixels: assumed}, // the one that is not for training
	{model: "train_and_servegpu", pixels: assumed},
	{model: "tags_two", refused: `signature: DIR/1/saved_model.pb: the model has several graphs, but none with the tag "serve" alone: it has one with the tags "serve", "gpu", one with the tags "serve", "tpu"; write "tags: [serve, gpu]" into DIR/1/assets.extra/inceptor.yaml, or the tags of another one`},
	{model: "tags_two", note: "gpu", yaml: "tags: [serve, gpu]\n", pixels: assumed},
	{model: "tags_two", note: "tpu", yaml: "tags: [serve, tpu]\n", reading: "tpu", pixels: assumed},
	{model: "pbtxt", refused: `complete: saved_model.pb: does not exist; saved_model.pbtxt does, which inceptor does not read: convert it, where Python has TensorFlow: cd DIR/1 && python3 -c "from google.protobuf import text_format as t; from tensorflow.core.protobuf.saved_model_pb2 import SavedModel as S; open('saved_model.pb', 'wb').write(t.Parse(open('saved_model.pbtxt').read(), S()).SerializeToString())"`},
	{model: "hub_v1", refused: `signature: no signature "serving_default", only ["default" "image_classification"]: write "signature: default" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "hub_v1", note: "signature", yaml: "signature: image_classification\n", reading: "logits", pixels: graph},

	// Shapes and types of the input.
	{model: "batch1", pixels: assumed},
	{model: "batch8", pixels: assumed},
	{model: "batch2_nchw", pixels: assumed},
	{model: "resnet_fixed64", pixels: assumed},
	{model: "bytes_batch4"},
	{model: "bytes_column"},
	{model: "keras_batch8", pixels: assumed},
	{model: "dynamic", refused: `signature: signature "serving_default": input "images" has the shape [N, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "dynamic", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "dynamic_all", refused: `signature: signature "serving_default": input "images" has the shape [N, ?, ?, ?], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml, and layout: nchw if channels come first`},
	{model: "dynamic_all", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "unknown_rank", refused: `signature: signature "serving_default": input "images" has an unknown shape, which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml, and layout: nchw if channels come first`},
	{model: "unknown_rank", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "flat_input", refused: `signature: signature "serving_default": input "images" takes float32 [N, 27648], perhaps flat images of 96×96×3: write "input: {size: [96, 96]}" into DIR/1/assets.extra/inceptor.yaml, if so; if it takes rows of numbers, set --input.format tensor-json`},
	{model: "flat_input", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "unbatched", refused: `signature: signature "serving_default": input "image" takes float32 [96, 96, 3], one image without a batch; inceptor feeds [N, height, width, channels]: export a signature with a batch, by tf.map_fn`},
	{model: "gray", pixels: assumed},
	{model: "gray_uint8", pixels: graph},
	{model: "gray_nchw", pixels: graph},
	{model: "gray_dynamic", yaml: "input: {size: [28, 28], fit: crop, resize: area}\n", pixels: assumed},
	{model: "gray_unknown", yaml: "input: {size: [28, 28], channels: gray}\n", pixels: assumed},
	{model: "gray_flat", refused: `signature: signature "serving_default": input "images" takes float32 [N, 28, 28], perhaps gray images without a channel: write "input: {channels: gray}" into DIR/1/assets.extra/inceptor.yaml, if so`},
	{model: "gray_flat", note: "channels", yaml: "input: {channels: gray}\n", pixels: assumed},
	{model: "keras_gray", yaml: "input: {scale: 1/255}\n", pixels: given},
	{model: "nchw", pixels: assumed},
	{model: "nchw", note: "nhwc", yaml: "input: {layout: nhwc}\n", refused: `signature: signature "serving_default": DIR/1/assets.extra/inceptor.yaml: line 1: input.layout: nhwc is not the layout of the input "images", which has the shape [N, 3, 96, 96]: leave the key out`},
	{model: "nchw_uint8", pixels: graph},
	{model: "nchw_dynamic", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	{model: "nchw_unknown", yaml: "input: {size: [96, 96], layout: nchw}\n", pixels: assumed},
	{model: "nchw_no_rank", yaml: "input: {size: [96, 96], layout: nchw}\n", pixels: assumed},
	{model: "tiny_square", pixels: assumed},
	{model: "ragged", refused: `signature: signature "serving_default": input "images" takes a composite tensor, such as a ragged one; inceptor feeds one dense tensor: export a signature that takes one`},
	{model: "keras_permute", pixels: assumed},
	{model: "keras_channels_first", pixels: assumed},
	{model: "uint8_in", pixels: graph},
	{model: "uint16_in", pixels: graph},
	{model: "uint32_in", pixels: graph},
	{model: "uint64_in", pixels: graph},
	{model: "int16_in", pixels: graph},
	{model: "int32_in", pixels: graph},
	{model: "int64_in", pixels: graph},
	{model: "int8_in", yaml: "input: {scale: 1, offset: -128}\n", pixels: given},
	{model: "f16_in", pixels: assumed},
	{model: "f64_in", pixels: assumed},
	{model: "bf16_in", pixels: assumed},
	{model: "f16_both", pixels: assumed},
	{model: "f64_both", pixels: assumed},
	{model: "bf16_both", pixels: assumed},
	{model: "keras_float16", pixels: assumed, within: 1e-3},
	{model: "keras_float64", pixels: assumed},

	// Outputs.
	{model: "logits", pixels: assumed},
	{model: "logits", note: "softmax", yaml: "activation: softmax\n", reading: "softmax", pixels: assumed},
	{model: "logits", note: "sigmoid", yaml: "activation: sigmoid\n", reading: "sigmoid", pixels: assumed},
	{model: "f16_logits", pixels: assumed},
	{model: "f16_logits", note: "softmax", yaml: "activation: softmax\n", reading: "softmax", pixels: assumed},
	{model: "f16_logits", note: "sigmoid", yaml: "activation: sigmoid\n", reading: "sigmoid", pixels: assumed},
	{model: "sigmoid1", pixels: assumed},
	{model: "sigmoid1", note: "two labels", files: labels("thing 0", "thing 1"), reading: "pair", pixels: assumed, label: thing},
	{model: "sigmoid_vec", pixels: assumed},
	{model: "sigmoid_vec", note: "two labels", files: labels("thing 0", "thing 1"), reading: "pair", pixels: assumed, label: thing},
	{model: "sigmoid_logit", pixels: assumed},
	{model: "sigmoid_logit", note: "two labels", files: labels("thing 0", "thing 1"), refusedLike: `is not between 0 and 1, and with two labels it must be a probability: write "activation: sigmoid" into `},
	{model: "sigmoid_logit", note: "activation", yaml: "activation: sigmoid\n", files: labels("thing 0", "thing 1"), reading: "pair", pixels: assumed, label: thing},
	{model: "out_unknown_shape", pixels: assumed},
	{model: "out_rank4", pixels: assumed},
	{model: "f64_out", pixels: assumed},
	{model: "f16_out", pixels: assumed},
	{model: "bf16_out", pixels: assumed},
	{model: "int32_out", refused: `signature: signature "serving_default": output "scores" is int32 [N, 10], which may be scores or classes: write "output: scores" into DIR/1/assets.extra/inceptor.yaml, if it has scores; or write "outputs: [scores]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes`},
	{model: "int32_out", note: "yaml", yaml: "output: scores\n", pixels: assumed},
	{model: "uint8_out", refused: `signature: signature "serving_default": output "scores" is uint8 [N, 10], which may be scores or classes: write "output: scores" into DIR/1/assets.extra/inceptor.yaml, if it has scores; or write "outputs: [scores]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes`},
	{model: "uint8_out", note: "yaml", yaml: "output: scores\n", pixels: assumed},
	{model: "argmax_only", refused: `signature: signature "serving_default": output "classes", int64 [N], has classes without their scores: export the scores as well, float32 [N, classes]; or write "outputs: [classes]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes`},
	{model: "argmax_only", note: "outputs", yaml: "outputs: [classes]\n", pixels: assumed},
	{model: "detection", refused: `signature: signature "serving_default": the outputs ["detection_boxes" "detection_classes" "detection_scores" "num_detections"] are those of an object detector, which has no scores for the classes of a whole image: write "outputs: [detection_boxes, detection_classes, detection_scores, num_detections]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with them as arrays`},
	{model: "detection", note: "outputs", reading: "detection", pixels: graph,
		yaml: "input: {size: [96, 96]}\noutputs: [detection_boxes, detection_classes, detection_scores, num_detections]\n"},
	{model: "ssd", refused: `signature: signature "serving_default": the outputs ["detection_boxes" "detection_classes" "detection_scores" "num_detections" "raw_detection_boxes" "raw_detection_scores"] are those of an object detector, which has no scores for the classes of a whole image: write "outputs: [detection_boxes, detection_classes, detection_scores, num_detections]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with them as arrays`},
	{model: "ssd", note: "outputs", reading: "detection", pixels: graph,
		yaml: "input: {size: [96, 96]}\noutputs: [detection_boxes, detection_classes, detection_scores, num_detections]\n"},
	{model: "deeplab", refused: `signature: signature "serving_default": input "ImageTensor" has the shape [1, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "deeplab", note: "size", yaml: "input: {size: [65, 65]}\n", refused: `signature: signature "serving_default": output "SemanticPredictions" is int64 [1, ?, ?], which may be scores or classes: write "output: SemanticPredictions" into DIR/1/assets.extra/inceptor.yaml, if it has scores; or write "outputs: [SemanticPredictions]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes`},
	{model: "deeplab", note: "small", yaml: "input: {size: [65, 65]}\noutputs: [SemanticPredictions]\n", pixels: graph},
	{model: "deeplab", note: "large", yaml: "input: {size: [513, 513]}\noutputs: [SemanticPredictions]\n", refused: `warm-up: batch of 1: output-too-large: with the output "SemanticPredictions", of shape [513, 513], an answer has 263169 values, over the limit of 65536: let the graph pool or cut it, or leave it out of outputs`},
	{model: "movenet", refused: `signature: signature "serving_default": output "output_0" has the shape [1, 1, 17, 3]; want [N, classes]: export a signature with the scores of each record; or write "outputs: [output_0]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes`},
	{model: "movenet", note: "outputs", yaml: "input: {fit: pad}\noutputs: [output_0]\n", pixels: graph},
	{model: "hub_features", refused: `signature: signature "serving_default": input "inputs" has the shape [N, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "hub_features", note: "size", yaml: "input: {size: [96, 96]}\n", refused: `signature: signature "serving_default": the output "feature_vector" may have features instead of scores: write "outputs: [feature_vector]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes; or write "output: feature_vector" into DIR/1/assets.extra/inceptor.yaml, if it has scores`},
	{model: "hub_features", note: "outputs", yaml: "input: {size: [96, 96]}\noutputs: [feature_vector]\n", pixels: graph},
	{model: "faces", refused: `signature: signature "serving_default": it is not clear which output has the scores: it has "age" float32 [N, 1], "gender" float32 [N, 2], "race" float32 [N, 7]; write "output: age" into DIR/1/assets.extra/inceptor.yaml, or the one that does`},
	{model: "faces", note: "age", yaml: "output: gender\noutputs: [age, race]\n", reading: "age", pixels: assumed},
	{model: "faces", note: "all", yaml: "outputs: [age, gender, race]\n", reading: "all", pixels: assumed},
	{model: "mixed_outputs", refused: `signature: signature "serving_default": it is not clear which output has the scores: it has "count" int64 [N], "features" float16 [N, 32], "seen" bool [N, 10], "words" string [N, 1]; write "output: features" into DIR/1/assets.extra/inceptor.yaml, or the one that does; or write "outputs: [count, features, seen, words]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes`},
	{model: "mixed_outputs", note: "outputs", yaml: "outputs: [words, count, seen, features]\n", pixels: assumed},
	{model: "standardized_features", refused: `signature: signature "serving_default": output "features" has the shape [N, 12, 12]; want [N, classes]: export a signature with the scores of each record; or write "outputs: [features]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes`},
	{model: "standardized_features", note: "outputs", yaml: "input: {scale: 1}\noutputs: [features]\n", pixels: given, not: "black.png"},
	{model: "top5_ids", pixels: assumed},
	{model: "top5_alone", refused: `signature: signature "serving_default": output "scores": labels: 20 labels for 5 classes; if these are the best 5 of 20 classes, export the signature with an output that says which ones, as strings or int64 of the scores' shape`},
	{model: "slim_v3", reading: "predictions", pixels: assumed}, // rather than the logits
	{model: "slim_v3", note: "logits", yaml: "output: logits\n", reading: "logits", pixels: assumed},

	// Pixels, as slim, Caffe, PyTorch, Darknet and Keras make them.
	{model: "slim_crop", yaml: "input: {crop: 0.875}\n", pixels: assumed},
	{model: "crop_half", yaml: "input: {crop: 0.5}\n", pixels: graph},
	{model: "tf1_pad", yaml: "input: {fit: pad}\n", pixels: assumed},
	{model: "darknet_pad", yaml: "input: {fit: pad}\n", pixels: graph},
	{model: "keras_smart_resize", yaml: "input: {fit: crop}\n", pixels: graph},
	{model: "crop_pad", yaml: "input: {crop: 0.875, fit: pad}\n", pixels: assumed},
	{model: "crop_crop", yaml: "input: {crop: 0.875, fit: crop}\n", pixels: assumed},
	{model: "resize_nearest", yaml: "input: {resize: nearest}\n", pixels: graph},
	{model: "resize_bicubic", yaml: "input: {resize: bicubic}\n", pixels: assumed},
	{model: "resize_area", yaml: "input: {resize: area}\n", pixels: graph},
	{model: "tf1_nearest", yaml: "input: {resize: nearest}\n", pixels: assumed},
	{model: "tf1_bicubic", yaml: "input: {resize: bicubic}\n", pixels: assumed},
	{model: "tf1_area", yaml: "input: {resize: area}\n", pixels: assumed},
	{model: "align_corners", yaml: "input: {align_corners: true}\n", pixels: assumed},
	{model: "align_corners_bicubic", yaml: "input: {resize: bicubic, align_corners: true}\n", pixels: assumed},
	{model: "pad_bicubic", yaml: "input: {fit: pad, resize: bicubic}\n", pixels: assumed},
	{model: "pad_nearest", yaml: "input: {fit: pad, resize: nearest}\n", pixels: graph},
	{model: "crop_bicubic", yaml: "input: {fit: crop, resize: bicubic}\n", pixels: assumed},
	{model: "crop_area", yaml: "input: {fit: crop, resize: area}\n", pixels: assumed},
	{model: "caffe_bgr", yaml: "input: {channels: bgr, mean: [103.939, 116.779, 123.68]}\n", pixels: given},
	{model: "torch_mean", yaml: "input: {scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}\n", pixels: given},
	{model: "tf_mode", yaml: "input: {mean: 127.5, std: 127.5}\n", pixels: given},
	{model: "bgr_unit", yaml: "input: {channels: bgr, scale: 1/255}\n", pixels: given},
	{model: "bgr_offset", yaml: "input: {channels: bgr, offset: [-104, -117, -123]}\n", pixels: given},
	{model: "vgg_mean", yaml: "input: {mean: [123.68, 116.78, 103.94]}\n", pixels: given},
	{model: "scale_list", yaml: "input: {scale: [1/64, 1/128, 1/255], offset: [0.5, -0.25, 0]}\n", pixels: given},
	{model: "onnx", pixels: given,
		yaml: "input: {crop: 0.875, scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}\nactivation: softmax\n"},
	{model: "onnx_timm", yaml: "input: {fit: crop, resize: bicubic}\nactivation: softmax\n", pixels: assumed},
	{model: "openvino", yaml: "input: {channels: bgr, scale: 1, half_pixel_centers: true}\n", pixels: given},

	// Labels.
	{model: "tf1_resource", note: "lines", files: labels("thing 0", "thing 1", "thing 2", "thing 3", "thing 4", "thing 5", "thing 6", "thing 7", "thing 8", "thing 9"),
		pixels: assumed, label: thing},
	{model: "tf1_resource", note: "0 Name", files: lines("assets/labels.txt", "%d thing %[1]d\n"), pixels: assumed, label: thing},
	{model: "tf1_resource", note: "0: name", files: lines("assets/labels.txt", "%d: thing %[1]d\n"), pixels: assumed, label: thing},
	{model: "tf1_resource", note: "0:name", files: lines("assets/labels.txt", "%d:thing %[1]d\n"), pixels: assumed, label: thing},
	{model: "tf1_resource", note: "synset and word", files: lines("assets/labels.txt", "n0144076%d thing %[1]d\n"), pixels: assumed, label: thing},
	{model: "tf1_resource", note: "beside", files: lines("labels.txt", "%d thing %[1]d\n"), pixels: assumed, label: thing},
	{model: "tf1_resource", note: "class_index", yaml: "labels: imagenet_class_index.json\n",
		files: jsonLabels("assets/imagenet_class_index.json", `"%d": ["n0144076%[1]d", "thing %[1]d"]`), pixels: assumed, label: thing},
	{model: "tf1_resource", note: "by name", yaml: "labels: labels.json\n", files: jsonLabels("assets/labels.json", `"thing %d": %[1]d`), pixels: assumed, label: thing},
	{model: "tf1_resource", note: "list", yaml: "labels: labels.json\n", files: map[string]string{"assets/labels.json": `["thing 0", "thing 1", "thing 2", "thing 3", "thing 4", "thing 5", "thing 6", "thing 7", "thing 8", "thing 9"]`}, pixels: assumed, label: thing},
	{model: "tf1_resource", note: "synsets and names", yaml: "labels: {file: synsets.txt, names: metadata.txt}\n",
		files: merged(lines("assets/synsets.txt", "n0144076%d\n"), lines("assets/metadata.txt", "n0144076%d\tthing %[1]d\n")), pixels: assumed, label: thing},
	{model: "background", pixels: assumed},
	{model: "background", note: "ten names", files: lines("assets/labels.txt", "thing %d\n"), refused: `signature: signature "serving_default": output "scores": labels: 10 labels for 11 classes: the file needs a label for each class; if the first class is the background, write "labels: {file: labels.txt, offset: 1}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "background", note: "offset", yaml: "labels: {file: labels.txt, offset: 1}\n", files: lines("assets/labels.txt", "thing %d\n"),
		pixels: assumed, label: afterBackground},
	{model: "automl", note: "own words", files: lines("assets/labels.txt", "thing %d\n")},

	// Weights and scores that are not finite.
	{model: "nan_weights", refused: `load: load DIR/1: variable "net/conv1/weights" has NaN at element 0 of [3, 3, 8, 16]: the model has diverged; publish a version with finite weights`},
	{model: "nan_batch_norm", refused: `load: load DIR/1: variable "net/conv1/gamma" has NaN at element 0 of [16]: the model has diverged; publish a version with finite weights`},
	{model: "standardize", pixels: assumed, not: "black.png"},

	// Keras 3 and TensorFlow 2.
	{model: "keras_inception_v3", pixels: assumed},
	{model: "keras_mobilenet_v2", pixels: assumed},
	{model: "keras_mobilenet_v3", pixels: graph},
	{model: "keras_efficientnet", pixels: graph},
	{model: "keras_no_top", pixels: assumed},
	{model: "keras_no_top", note: "outputs", yaml: "outputs: [output_0]\n", reading: "features", pixels: assumed},
	{model: "keras_no_top_4d", refused: `signature: signature "serving_default": output "output_0" has the shape [N, 3, 3, 32]; want [N, classes]: export a signature with the scores of each record; or write "outputs: [output_0]" into DIR/1/assets.extra/inceptor.yaml, without output, for answers with arrays and without classes`},
	{model: "keras_no_top_4d", note: "outputs", yaml: "outputs: [output_0]\n", pixels: assumed},
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
	{model: "keras_sigmoid", note: "two labels", files: labels("thing 0", "thing 1"), reading: "pair", pixels: assumed, label: thing},
	{model: "keras_logits", yaml: "activation: softmax\n", pixels: assumed},
	{model: "keras_multi_label", yaml: "activation: sigmoid\n", pixels: assumed},
	{model: "keras_mixed_float16", pixels: assumed, within: 1e-3},
	{model: "keras_mixed_bfloat16", pixels: assumed, within: 1e-2},
	{model: "keras_augmented", pixels: graph},
	{model: "keras_resnet", yaml: "input: {channels: bgr, mean: [103.939, 116.779, 123.68]}\n", pixels: given},
	{model: "keras_densenet", yaml: "input: {scale: 1/255, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}\n", pixels: given},
	{model: "keras_h5", refused: `no version is serving: DIR has no version, no folder with a number for a name that holds a saved_model.pb`},
	{model: "keras_native", refused: `no version is serving: DIR has no version, no folder with a number for a name that holds a saved_model.pb`},
	{model: "keras2_plain", pixels: assumed},
	{model: "keras2_compiled", pixels: graph},
	{model: "keras2_sequential", pixels: graph},
	{model: "keras2_transfer", pixels: graph},
	{model: "keras2_export", pixels: graph},
	{model: "keras_dynamic", refused: `signature: signature "serving_default": input "image" has the shape [N, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "keras_dynamic", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: assumed},
	// TensorFlow's C loader does not find the variables of a Keras 3 model that
	// tf.saved_model.save wrote.
	{model: "keras_saved", refusedLike: ": Keras 3 models must be written by model.export(DIR), not tf.saved_model.save"},
	{model: "keras_two_outputs", refused: `signature: signature "serving_default": it is not clear which output has the scores: it has "output_0" float32 [N, 10], "output_1" float32 [N, 3]; write "output: output_0" into DIR/1/assets.extra/inceptor.yaml, or the one that does`},
	{model: "keras_two_outputs", note: "first", yaml: "output: output_0\n", reading: "first", pixels: graph},
	{model: "keras_two_outputs", note: "second", yaml: "output: output_1\n", reading: "second", pixels: graph},
	{model: "keras_dict", refused: `signature: signature "serving_default": it is not clear which output has the scores: it has "features" float32 [N, 32], "probabilities" float32 [N, 10]; write "output: probabilities" into DIR/1/assets.extra/inceptor.yaml, or the one that does`},
	{model: "keras_dict", note: "probabilities", yaml: "output: probabilities\n", reading: "probabilities", pixels: graph},
	{model: "keras_dict", note: "both", yaml: "output: probabilities\noutputs: [features]\n", reading: "both", pixels: graph},
	{model: "teachable_machine", pixels: assumed, label: func(i int) string { return []string{"Cat", "Dog", "Bird of prey"}[i] }},
	{model: "tf_module", pixels: assumed},
	{model: "tf_while", pixels: assumed},
	{model: "tf_cond", pixels: assumed},
	{model: "tf_jit", pixels: assumed},
	{model: "tf_random", pixels: assumed},
	{model: "tf_counter", pixels: assumed},
	{model: "tf_frozen", pixels: assumed},
	{model: "tf_fake_quant", pixels: assumed},
	{model: "tf_gpu", pixels: assumed},
	{model: "custom_op", refusedLike: `load: load DIR/1: not found: Op type not registered 'ZeroOut'`},
	{model: "hub_v2", refused: `signature: signature "serving_default": input "inputs" has the shape [N, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}" into DIR/1/assets.extra/inceptor.yaml`},
	{model: "hub_v2", note: "size", yaml: "input: {size: [96, 96]}\n", pixels: graph},
	{model: "tf_decode_image"},
	{model: "tf_decode_jpeg"},
}
