package infer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
)

// A batch has samples of several formats if the model accepts them together, and otherwise of
// one.
func TestWarmUpMixed(t *testing.T) {
	modeltest.OpenLibrary(t)
	none := func(images [][]byte) bool { return false }
	mixed := func(images [][]byte) bool { return !bytes.Equal(images[0], images[len(images)-1]) }
	for name, test := range map[string]struct {
		refuses func(images [][]byte) bool
		formats string // of the largest batch
		ok      bool
	}{
		"together":        {none, "jpeg png", true},
		"one alone":       {mixed, "jpeg", true},
		"only PNGs":       {func(images [][]byte) bool { return len(images) > 1 && (mixed(images) || images[0][0] == 0xff) }, "png", true},
		"one image a run": {func(images [][]byte) bool { return len(images) > 1 }, "png", false},
	} {
		run := func(_ context.Context, in ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) {
			images, err := in[0].Strings()
			if err != nil {
				return nil, err
			}
			if test.refuses(images) {
				return nil, &savedmodel.Error{Code: savedmodel.InvalidArgument, Message: "no"}
			}
			scores, err := savedmodel.NewTensor(savedmodel.Float32, int64(len(images)), 2)
			if err == nil {
				clear(scores.Bytes())
			}
			return []*savedmodel.Tensor{scores}, err
		}
		v := &Version{log: slog.New(slog.DiscardHandler)}
		v.sig = signature{
			Spec: Spec{Output: Output{Scores: "scores"}}, content: Images, dtype: savedmodel.String,
			feeds: []feed{{dtype: savedmodel.String, from: fromImage}},
		}
		v.run = newRunner(v.sig, run)
		v.batcher = newBatcher(plain(v.run.batch), Lanes, true, Batch{Max: 4}, unobservedRuns{})
		_, err := v.warmUp(t.Context(), t.TempDir())
		v.batcher.close()
		var formats []string
		for _, s := range v.samples {
			formats = append(formats, s.format)
		}
		if got := strings.Join(formats, " "); got != test.formats || (err == nil) != test.ok {
			t.Errorf("%s: %q, %v, want %q", name, got, err, test.formats)
		}
	}
}

// Models of encoded images that decode, crop and divide in different ways warm up with samples
// that they accept.
func TestWarmUpEncoded(t *testing.T) {
	for name, test := range map[string]struct {
		model   modeltest.Means
		formats string // of the samples that it takes
	}{
		"DecodeJpeg":        {modeltest.Means{Decoder: "DecodeJpeg"}, "jpeg png"},
		"DecodePng":         {modeltest.Means{Decoder: "DecodePng"}, "jpeg png"},
		"DecodeImage":       {modeltest.Means{Decoder: "DecodeImage"}, "jpeg png"},
		"DecodeAndCropJpeg": {modeltest.Means{Decoder: "DecodeAndCropJpeg", Crop: []int32{100, 100, 300, 500}}, "jpeg"},
		"DecodeBmp":         {modeltest.Means{Decoder: "DecodeBmp"}, "bmp"},
		"standardised":      {modeltest.Means{Decoder: "DecodeJpeg", Divides: true}, "jpeg png"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			test.model.Write(t, dir, "labels: labels.txt")
			v := load(t, dir)
			var formats []string
			for _, s := range v.samples {
				formats = append(formats, s.format)
			}
			if got := strings.Join(formats, " "); got != test.formats {
				t.Errorf("it takes %q, want %q", got, test.formats)
			}
			if v.Preprocessing() != nil || v.Assumed() != "" {
				t.Errorf("pixels are assumed for encoded images: %v, %q", v.Preprocessing(), v.Assumed())
			}
		})
	}
}

// A Keras 3 model that tf.saved_model.save has written runs only in Python.
func TestLostVariable(t *testing.T) {
	status := &savedmodel.Error{Code: savedmodel.Code(9), Message: "Could not find variable scores/bias. This could mean that the variable has been deleted. " +
		"In TF1, it can also mean the variable is uninitialized.\n\t [[{{node functional_1/scores_1/BiasAdd/ReadVariableOp}}]]"}
	err := lostVariable(fmt.Errorf("batch of 1: %w", status))
	if want := `TensorFlow's loader has no value for the variable "scores/bias": Keras 3 models must be written by model.export(DIR), not tf.saved_model.save`; err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	for _, other := range []error{nil, errors.New("x"), &savedmodel.Error{Code: savedmodel.InvalidArgument, Message: "x"}} {
		if got := lostVariable(other); got != other { //nolint:errorlint // the same
			t.Errorf("%v became %v", other, got)
		}
	}
}

// The batches that a version is warmed up with.
func TestBatchSizes(t *testing.T) {
	for most, want := range map[int][]int{1: {1}, 2: {1, 2}, 6: {1, 2, 4, 6}, 8: {1, 2, 4, 8}} {
		if got := batchSizes(most, 0); !slices.Equal(got, want) {
			t.Errorf("up to %d: %v, want %v", most, got, want)
		}
	}
	if got := batchSizes(8, 8); !slices.Equal(got, []int{8}) {
		t.Errorf("exactly 8: %v", got)
	}
}
