package infer

import (
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// Inputs of each shape and type take pixels in one way, or are refused with the line to write or
// how to export the model.
func TestBindPixels(t *testing.T) {
	float, byt := savedmodel.Float32, savedmodel.UInt8
	const last, first, gray = pixels.ChannelsLast, pixels.ChannelsFirst, pixels.Gray
	const into = ` into DIR/1/assets.extra/inceptor.yaml`
	gives := "; inceptor feeds [N, height, width, channels]: "
	for _, test := range []struct {
		name     string
		yaml     string // of input
		input    savedmodel.TensorInfo
		layout   pixels.Layout
		channels pixels.Channels
		shape    savedmodel.Shape // of one image
		failure  string           // how the error begins
	}{
		{name: "channels last", input: tensor(float, -1, 9, 8, 3), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "a batch of one size", input: tensor(float, 8, 9, 8, 3), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "three on each side", input: tensor(float, -1, 3, 3, 3), layout: last, shape: savedmodel.Shape{3, 3, 3}},
		{name: "one row", input: tensor(float, -1, 1, 8, 3), layout: last, shape: savedmodel.Shape{1, 8, 3}},
		{name: "gray", input: tensor(float, -1, 9, 8, 1), layout: last, channels: gray, shape: savedmodel.Shape{9, 8, 1}},
		{name: "channels first", input: tensor(float, -1, 3, 9, 8), layout: first, shape: savedmodel.Shape{3, 9, 8}},
		{name: "channels first, one column", input: tensor(float, -1, 3, 9, 1), layout: first, shape: savedmodel.Shape{3, 9, 1}},
		{name: "channels first, gray", input: tensor(float, -1, 1, 9, 8), layout: first, channels: gray, shape: savedmodel.Shape{1, 9, 8}},
		{name: "channels first, any size", yaml: "size: [9, 8]", input: tensor(float, -1, 3, -1, -1), layout: first, shape: savedmodel.Shape{3, 9, 8}},
		{name: "channels first, gray, any size", yaml: "size: [9, 8]", input: tensor(float, -1, 1, -1, -1), layout: first, channels: gray, shape: savedmodel.Shape{1, 9, 8}},
		{name: "channels first, width open", yaml: "size: [9, 8]", input: tensor(float, -1, 3, 9, -1), layout: first, shape: savedmodel.Shape{3, 9, 8}},
		{name: "any size", yaml: "size: [9, 8]", input: tensor(float, -1, -1, -1, 3), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "nothing known", yaml: "size: [9, 8]", input: tensor(float, -1, -1, -1, -1), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "nothing known, channels first", yaml: "{size: [9, 8], layout: nchw}", input: tensor(float, -1, -1, -1, -1), layout: first, shape: savedmodel.Shape{3, 9, 8}},
		{name: "nothing known, gray", yaml: "{size: [9, 8], channels: gray}", input: tensor(float, -1, -1, -1, -1), layout: last, channels: gray, shape: savedmodel.Shape{9, 8, 1}},
		{name: "unknown rank", yaml: "size: [9, 8]", input: anyShape(float), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "unknown rank, channels first, gray", yaml: "{size: [9, 8], layout: nchw, channels: gray}", input: anyShape(float), layout: first, channels: gray, shape: savedmodel.Shape{1, 9, 8}},
		{name: "only the first channels open", yaml: "layout: nchw", input: tensor(float, -1, -1, 9, 8), layout: first, shape: savedmodel.Shape{3, 9, 8}},
		{name: "layout as the shape tells", yaml: "layout: nchw", input: tensor(float, -1, 3, 9, 8), layout: first, shape: savedmodel.Shape{3, 9, 8}},
		{name: "layout decides", yaml: "layout: nchw", input: tensor(float, -1, 3, 3, 3), layout: first, shape: savedmodel.Shape{3, 3, 3}},
		{name: "gray without a channel", yaml: "channels: gray", input: tensor(float, -1, 28, 28), layout: last, channels: gray, shape: savedmodel.Shape{28, 28}},
		{name: "gray without a channel, a batch of one size", yaml: "channels: gray", input: tensor(float, 1, 28, 28), layout: last, channels: gray, shape: savedmodel.Shape{28, 28}},
		{name: "flat", yaml: "size: [9, 8]", input: tensor(float, -1, 216), layout: last, shape: savedmodel.Shape{216}},
		{name: "flat, channels first", yaml: "{size: [9, 8], layout: nchw}", input: tensor(float, -1, 216), layout: first, shape: savedmodel.Shape{216}},
		{name: "flat, gray", yaml: "size: [28, 28]", input: tensor(float, -1, 784), layout: last, channels: gray, shape: savedmodel.Shape{784}},
		{name: "uint8", input: tensor(byt, -1, 9, 8, 3), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "float16", input: tensor(savedmodel.Float16, -1, 9, 8, 3), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "bfloat16", input: tensor(savedmodel.BFloat16, -1, 9, 8, 3), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "float64", input: tensor(savedmodel.Float64, -1, 9, 8, 3), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "int32", input: tensor(savedmodel.Int32, -1, 9, 8, 3), layout: last, shape: savedmodel.Shape{9, 8, 3}},
		{name: "int64", input: tensor(savedmodel.Int64, -1, 3, 9, 8), layout: first, shape: savedmodel.Shape{3, 9, 8}},

		{name: "no size", input: tensor(float, -1, -1, -1, 3),
			failure: `has the shape [N, ?, ?, 3], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}"` + into},
		{name: "no size, nothing known", input: tensor(float, -1, -1, -1, -1),
			failure: `has the shape [N, ?, ?, ?], which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}"` + into + ", and layout: nchw if channels come first"},
		{name: "no size, unknown rank", input: anyShape(float),
			failure: `has an unknown shape, which does not tell height and width: write "input: {size: [HEIGHT, WIDTH]}"` + into + ", and layout: nchw if channels come first"},
		{name: "no size, a layout", yaml: "layout: nchw", input: anyShape(float),
			failure: `has an unknown shape, which does not tell height and width: write "input: {layout: nchw, size: [HEIGHT, WIDTH]}"` + into},
		{name: "another layout", yaml: "layout: nchw", input: tensor(float, -1, 9, 8, 3),
			failure: `DIR/1/assets.extra/inceptor.yaml: input.layout: nchw is not the layout of the input "x", which has the shape [N, 9, 8, 3]: leave the key out`},
		{name: "another layout, channels first", yaml: "layout: nhwc", input: tensor(float, -1, 3, 9, 8), failure: `DIR/1/assets.extra/inceptor.yaml: input.layout: nhwc is not`},
		{name: "another size, channels first", yaml: "size: [3, 9]", input: tensor(float, -1, 3, 9, 8),
			failure: `DIR/1/assets.extra/inceptor.yaml: input.size: [3, 9] is not the size of the input "x", which has the shape [N, 3, 9, 8]: leave the key out`},
		{name: "another size, flat", yaml: "size: [9, 9]", input: tensor(float, -1, 216),
			failure: `DIR/1/assets.extra/inceptor.yaml: input.size: [9, 9] is not the size of flat images in the input "x", which has the shape [N, 216]: height × width × channels must be 216`},
		{name: "too large", yaml: "size: [16385, 8]", input: anyShape(float), failure: "has the size 16385×8, which is over 16384 on a side"},
		{name: "too many pixels", input: tensor(float, -1, 3, 16384, 16384), failure: "has the size 16384×16384, which is over 16384 on a side or over 67108864 pixels"},
		{name: "rows", input: tensor(float, -1, 4), failure: "takes rows of 4 numbers, not images: set --input.format tensor-json"},
		{name: "rows of any length", yaml: "size: [9, 8]", input: tensor(savedmodel.Int64, -1, -1), failure: "takes int64 [N, ?], rows of numbers, not images: set --input.format tensor-json"},
		{name: "numbers", input: tensor(float, -1), failure: "takes float32 [N], a number for each record, not images: set --input.format tensor-json"},
		{name: "one value", input: tensor(float), failure: "takes float32 [], one value" + gives + "name a signature that takes images"},
		{name: "perhaps flat", input: tensor(float, -1, 192),
			failure: `takes float32 [N, 192], perhaps flat images of 8×8×3: write "input: {size: [8, 8]}"` + into + ", if so; if it takes rows of numbers, set --input.format tensor-json"},
		{name: "perhaps flat and gray", input: tensor(float, -1, 784),
			failure: `takes float32 [N, 784], perhaps flat images of 28×28×1: write "input: {size: [28, 28]}"` + into + ", if so; if it"},
		{name: "perhaps gray", input: tensor(float, -1, 28, 28), failure: `takes float32 [N, 28, 28], perhaps gray images without a channel: write "input: {channels: gray}"` + into + ", if so"},
		{name: "one image", input: tensor(float, 96, 96, 3), failure: "takes float32 [96, 96, 3], one image without a batch" + gives + "export a signature with a batch, by tf.map_fn"},
		{name: "one image of any size", input: tensor(float, -1, -1, 3), failure: "takes float32 [N, ?, 3], one image without a batch"},
		{name: "one gray image", yaml: "channels: gray", input: tensor(float, 28, 28, 1), failure: "takes float32 [28, 28, 1], one image without a batch"},
		{name: "four channels", input: tensor(float, -1, 9, 9, 4), failure: "takes float32 [N, 9, 9, 4], images of 4 channels" + gives + "export a signature that takes 3, or 1"},
		{name: "four channels, any size", input: tensor(float, -1, -1, -1, 4),
			failure: `takes float32 [N, ?, ?, 4]: inceptor does not make images of 4 channels; write "input: {layout: nchw}"` + into + ", if channels come first"},
		{name: "a film", input: tensor(float, -1, 16, 96, 96, 3), failure: "takes float32 [N, 16, 96, 96, 3], with 5 dimensions" + gives},
		{name: "truth values", input: tensor(savedmodel.Bool, -1, 9, 9, 3),
			failure: "takes bool [N, 9, 9, 3]; pixels can be float16, bfloat16, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64: " +
				"export a signature that takes one of these and casts, with tf.cast(x, tf.bool)"},
		{name: "sparse", input: savedmodel.TensorInfo{DType: float, Shape: savedmodel.Shape{-1, 9, 9, 3}, Encoding: "coo_sparse"},
			failure: "takes sparse float32 [N, 9, 9, 3]; inceptor feeds one dense tensor"},
	} {
		t.Run(test.name, func(t *testing.T) {
			spec := defaultSpec()
			if err := yaml.Unmarshal([]byte("input: {"+strings.Trim(test.yaml, "{}")+"}"), &spec); err != nil {
				t.Fatal(err)
			}
			bound, err := spec.bind(modelMetadata{
				signatures: map[string]savedmodel.Signature{defaultSignature: {
					Inputs: infos{"x": test.input}, Outputs: infos{"scores": tensor(float, -1, 10)},
				}},
				file: "DIR/1/assets.extra/inceptor.yaml",
			}, Images)
			if test.failure != "" {
				if got := strings.TrimPrefix(fmtError(err), `signature "serving_default": `); !strings.HasPrefix(strings.TrimPrefix(got, `input "x" `), test.failure) {
					t.Errorf("got  %s\nwant %s", got, test.failure)
				}
				return
			}
			if err != nil || bound.layout != test.layout || bound.channels != test.channels || !slices.Equal(bound.feeds[0].shape, test.shape) {
				t.Errorf("got %s %q %v, %v, want %s %q %v", bound.layout, bound.channels, bound.feeds, err, test.layout, test.channels, test.shape)
			}
		})
	}
}

func fmtError(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}
