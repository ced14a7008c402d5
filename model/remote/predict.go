package remote

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// Bounds of messages. They are generous: an image's scores are kilobytes, and
// a server's own limit is mostly lower.
const (
	maxImages        = 1024
	maxRequestBytes  = 1 << 30   // below what a protobuf message may have
	baseAnswerBytes  = 1 << 20   // what is around the scores
	imageAnswerBytes = 256 << 10 // 65,536 classes
)

// A Batch is what one Predict asks.
type Batch struct {
	Signature string // its key; empty: the server's "serving_default"
	Input     string // key of the signature's input
	Output    string // key of the output with the scores
	Images    *tfpb.TensorProto

	// Version is the one that would serve locally; 0: there is none. With
	// fallback.version=same no other may answer.
	Version int64
	// Label is asked for instead of a version, and instead of fallback.label.
	Label string
	// Classes is how many scores an image has; 0: any number, of all the same.
	Classes int
}

// An Answer is what the server says to a batch.
type Answer struct {
	Scores  [][]float32 // a row for each image; not checked for NaN
	Version int64       // that has answered; 0: the server does not tell
	Server  string      // that has answered, host:port
	Took    time.Duration
}

// Pixels makes a tensor of images that are decoded: each holds
// height×width×3 elements in the layout of tensor_content, little endian.
// The dtype is float32 or uint8.
func Pixels(dtype savedmodel.DataType, height, width int, images ...[]byte) (*tfpb.TensorProto, error) {
	if dtype != savedmodel.Float32 && dtype != savedmodel.UInt8 {
		return nil, fmt.Errorf("pixels of type %v, want float32 or uint8", dtype)
	}
	size := height * width * 3 * dtype.Size()
	content := make([]byte, 0, size*len(images))
	for i, image := range images {
		if len(image) != size {
			return nil, fmt.Errorf("image %d has %d bytes, %v of %d×%d×3 has %d", i, len(image), dtype, height, width, size)
		}
		content = append(content, image...)
	}
	return &tfpb.TensorProto{
		Dtype:         tfpb.DataType(dtype),
		TensorShape:   shape(len(images), height, width, 3),
		TensorContent: content,
	}, nil
}

// Strings makes a tensor of encoded images, which it does not copy.
func Strings(images ...[]byte) *tfpb.TensorProto {
	return &tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, TensorShape: shape(len(images)), StringVal: images}
}

func shape(dims ...int) *tfpb.TensorShapeProto {
	s := &tfpb.TensorShapeProto{}
	for _, d := range dims {
		s.Dim = append(s.Dim, &tfpb.TensorShapeProto_Dim{Size: int64(d)})
	}
	return s
}

// Predict sends a batch and returns a row of scores for each of its images.
// It takes fallback.budget at most, waiting for a place, calls and retries
// together. The batch must not change meanwhile. Its error is an *Error, or
// wraps that of ctx.
//
// A server's INVALID_ARGUMENT may blame the images, but the request as well: a
// signature that has changed, a label that was taken back. So for one image
// alone the server is asked once more with a blank one in its place, and only
// if that is answered the image is to blame.
func (c *Client) Predict(ctx context.Context, b Batch) (Answer, error) {
	dims := b.Images.GetTensorShape().GetDim()
	if len(dims) == 0 || dims[0].GetSize() < 1 || dims[0].GetSize() > maxImages {
		return Answer{}, fmt.Errorf("predict: a batch of shape %v, want 1 to %d images", sizes(dims), maxImages)
	}
	n := int(dims[0].GetSize())
	ctx, cancel := c.budget(ctx)
	defer cancel()
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return Answer{}, c.full(ctx)
	}
	a, err := c.predict(ctx, b, n)
	if n != 1 || KindOf(err) != KindInput {
		return a, err
	}
	blank := b
	blank.Images = blankOf(b.Images)
	_, blankErr := c.predict(ctx, blank, 1)
	if blankErr == nil {
		return Answer{}, err
	}
	if e := new(Error); errors.As(blankErr, &e) && e.Kind == KindInput {
		e.Message += " (and so for a blank image)"
	}
	return Answer{}, asRefused(blankErr)
}

func (c *Client) predict(ctx context.Context, b Batch, n int) (Answer, error) {
	spec := c.spec(b)
	request := &tfpb.PredictRequest{
		ModelSpec:    c.modelSpec(spec, b.Signature),
		Inputs:       map[string]*tfpb.TensorProto{b.Input: b.Images},
		OutputFilter: []string{b.Output},
	}
	if size := proto.Size(request); size > maxRequestBytes {
		return Answer{}, &Error{Kind: KindTooLarge, Op: "predict", Server: c.config.Address, Code: codes.ResourceExhausted.String(),
			Message: fmt.Sprintf("a request of %d bytes is larger than max %d", size, maxRequestBytes)}
	}
	var (
		response tfpb.PredictResponse
		answer   Answer
	)
	start := time.Now()
	err := c.within(ctx, call{
		op: "predict", method: predictMethod, spec: spec, counts: true,
		request: request, response: &response, maxBytes: baseAnswerBytes + n*imageAnswerBytes,
		read: func(from string) error {
			scores, err := scoresOf(response.GetOutputs(), b.Output, n, b.Classes)
			if err != nil {
				return c.badAnswer("predict", "%v", err)
			}
			answer = Answer{Scores: scores, Version: response.GetModelSpec().GetVersion().GetValue(), Server: from}
			return c.checkVersion("predict", b.Version, answer.Version)
		},
	})
	if err != nil {
		return Answer{}, err
	}
	answer.Took = time.Since(start)
	return answer, nil
}

// spec is which version is asked for.
func (c *Client) spec(b Batch) asked {
	if b.Label != "" {
		return asked{label: b.Label}
	}
	if c.config.Label != "" {
		return asked{label: c.config.Label}
	}
	if c.config.Version == SameVersion {
		return asked{version: b.Version}
	}
	return asked{}
}

func (c *Client) modelSpec(a asked, signature string) *tfpb.ModelSpec {
	spec := &tfpb.ModelSpec{Name: c.config.Model, SignatureName: signature}
	switch {
	case a.label != "":
		spec.VersionChoice = &tfpb.ModelSpec_VersionLabel{VersionLabel: a.label}
	case a.version > 0:
		spec.VersionChoice = &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(a.version)}
	}
	return spec
}

// checkVersion holds fallback.version=same.
func (c *Client) checkVersion(op string, want, got int64) error {
	switch {
	case c.config.Version == AnyVersion || want == 0 || got == want:
		return nil
	case got == 0:
		return c.wrongVersion(op, "the server does not tell its version, want %d", want)
	}
	return c.wrongVersion(op, "version %d has answered, want %d", got, want)
}

// full is the error of a batch that found no place.
func (c *Client) full(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errBudget) {
		return &Error{Kind: KindUnavailable, Op: "predict", Server: c.config.Address,
			Message: fmt.Sprintf("not called: %d batches were under way for all of %v", c.config.Concurrency, c.config.Budget)}
	}
	return fmt.Errorf("predict at %s: %w", c.config.Address, context.Cause(ctx))
}

// scoresOf reads the output's rows: float32 of shape [n, classes], complete.
func scoresOf(outputs map[string]*tfpb.TensorProto, key string, n, classes int) ([][]float32, error) {
	t, ok := outputs[key]
	if !ok {
		return nil, fmt.Errorf("it has no output %q", key)
	}
	dims := t.GetTensorShape().GetDim()
	if t.GetDtype() != tfpb.DataType_DT_FLOAT {
		return nil, fmt.Errorf("output %q is %v, want float32", key, savedmodel.DataType(t.GetDtype()))
	}
	if len(dims) != 2 || t.GetTensorShape().GetUnknownRank() || dims[0].GetSize() != int64(n) || dims[1].GetSize() < 1 {
		return nil, fmt.Errorf("output %q has the shape %v, want (%d, classes)", key, sizes(dims), n)
	}
	width := dims[1].GetSize()
	if width > math.MaxInt32 { // the product below shall not overflow
		return nil, fmt.Errorf("output %q has %d classes", key, width)
	}
	if classes > 0 && width != int64(classes) {
		return nil, fmt.Errorf("output %q has %d classes, want %d", key, width, classes)
	}
	total := int64(n) * width
	values := t.GetFloatVal()
	if content := t.GetTensorContent(); len(content) > 0 {
		if int64(len(content)) != 4*total {
			return nil, fmt.Errorf("output %q of shape (%d, %d) has %d bytes, want %d", key, n, width, len(content), 4*total)
		}
		values = make([]float32, total)
		for i := range values {
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(content[4*i:]))
		}
	} else if int64(len(values)) != total {
		return nil, fmt.Errorf("output %q of shape (%d, %d) has %d values, want %d", key, n, width, len(values), total)
	}
	rows := make([][]float32, n)
	for i := range rows {
		rows[i] = values[i*int(width) : (i+1)*int(width) : (i+1)*int(width)]
	}
	return rows, nil
}

func sizes(dims []*tfpb.TensorShapeProto_Dim) savedmodel.Shape {
	s := savedmodel.Shape{}
	for _, d := range dims[:min(len(dims), 8)] {
		s = append(s, d.GetSize())
	}
	return s
}

// blankOf is one black image in the place of another: of the same size, or one
// pixel where the server decodes.
func blankOf(t *tfpb.TensorProto) *tfpb.TensorProto {
	if t.GetDtype() == tfpb.DataType_DT_STRING {
		return Strings(blackPixel)
	}
	return &tfpb.TensorProto{Dtype: t.GetDtype(), TensorShape: t.GetTensorShape(), TensorContent: make([]byte, len(t.GetTensorContent()))}
}

// blackPixel is a PNG of 1×1: small, and taken by every decoder of TensorFlow but
// that of BMP.
var blackPixel = []byte("\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52" +
	"\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90\x77\x53" +
	"\xde\x00\x00\x00\x0c\x49\x44\x41\x54\x78\xda\x63\x60\x60\x60\x00" +
	"\x00\x00\x04\x00\x01\xc8\xea\xeb\xf9\x00\x00\x00\x00\x49\x45\x4e" +
	"\x44\xae\x42\x60\x82")
