package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
	maxRows         = 1024
	maxRequestBytes = 1 << 30   // below what a protobuf message may have
	baseAnswerBytes = 1 << 20   // what is around the scores
	rowAnswerBytes  = 256 << 10 // 65,536 classes
	rowWordBytes    = 2 << 20   // 32 bytes for each of their words
	rowArrayBytes   = 4 << 20   // more than an answer takes
)

// NoVersion stands for a version that is not wanted, or not told. All versions have
// numbers from 0 on.
const NoVersion = -1

// A Batch is what one Predict asks.
type Batch struct {
	Signature string // its key; empty: the server's "serving_default"
	Output    string // key of the output with the scores; empty: none are asked for
	// ClassOutput is the key of the output with the class of each score, as a
	// string, int64 or int32; empty: there is none, a score's place is its class.
	ClassOutput string
	// Arrays are the keys of outputs that are wanted as they are.
	Arrays []string
	// Returned are inputs, by the key of the output that must be the same.
	Returned map[string]string
	// Inputs are the signature's, by key: a row of each for each record.
	Inputs map[string]*tfpb.TensorProto
	// Records is how many of the rows are records; those after them only fill the batch,
	// and are answered as well. 0: all.
	Records int
	// Fixed are the inputs that are the same for every batch, of any shape.
	Fixed map[string]*tfpb.TensorProto
	// Blank makes Inputs with as many rows, of records that the model surely takes; nil:
	// none is known.
	Blank func() (map[string]*tfpb.TensorProto, error)

	// Version is the one that would serve locally; NoVersion: there is none. With
	// fallback.version=same no other may answer.
	Version int64
	// Label is asked for instead of a version, and instead of fallback.label.
	Label string
	// AllOutputs asks for whatever outputs there are, where it is not known
	// whether the server has Output: if not, the only one that fits is taken.
	AllOutputs bool
	// Classes is how many scores an image has; 0: any number, of all the same.
	Classes int
}

// An Answer is what the server says to a batch.
type Answer struct {
	Scores  [][]float32        // a row for each record; not checked for NaN
	Words   [][]byte           // the class of each score, of all rows, if ClassOutput has strings
	Numbers []int64            // the same, if it has integers
	Arrays  []savedmodel.Array // of the whole batch, as Batch.Arrays lists them
	Version int64              // that has answered; NoVersion: the server does not tell
	Server  string             // that has answered, host:port
	Took    time.Duration
}

// Numbers makes a tensor of rows that have one shape, such as decoded images:
// each holds the elements in the layout of tensor_content, little endian. The
// dtype has a fixed size.
func Numbers(dtype savedmodel.DataType, shape savedmodel.Shape, rows ...[]byte) (*tfpb.TensorProto, error) {
	n, ok := shape.Elements()
	if !ok || dtype.Size() == 0 {
		return nil, fmt.Errorf("rows of %v %v have no fixed size", dtype, shape)
	}
	size := int(n) * dtype.Size()
	content := make([]byte, 0, size*len(rows))
	for i, row := range rows {
		if len(row) != size {
			return nil, fmt.Errorf("row %d has %d bytes, %v %v has %d", i, len(row), dtype, shape, size)
		}
		content = append(content, row...)
	}
	return &tfpb.TensorProto{Dtype: tfpb.DataType(dtype), TensorShape: shapeOf(len(rows), shape), TensorContent: content}, nil
}

// Strings makes a tensor of strings, which it does not copy: rows of one shape,
// or a string each where that is nil.
func Strings(shape savedmodel.Shape, values ...[]byte) *tfpb.TensorProto {
	n, _ := shape.Elements()
	rows := len(values) / int(max(n, 1))
	return &tfpb.TensorProto{Dtype: tfpb.DataType_DT_STRING, TensorShape: shapeOf(rows, shape), StringVal: values}
}

func shapeOf(rows int, shape savedmodel.Shape) *tfpb.TensorShapeProto {
	s := &tfpb.TensorShapeProto{}
	for _, d := range append(savedmodel.Shape{int64(rows)}, shape...) {
		s.Dim = append(s.Dim, &tfpb.TensorShapeProto_Dim{Size: d})
	}
	return s
}

// rows is how many records a batch has; false: too many, or its inputs do not
// have as many.
func (b Batch) rows() (n int, ok bool) {
	for _, in := range b.Inputs {
		dims := in.GetTensorShape().GetDim()
		if len(dims) == 0 || n > 0 && dims[0].GetSize() != int64(n) || dims[0].GetSize() < 1 || dims[0].GetSize() > maxRows {
			return 0, false
		}
		n = int(dims[0].GetSize())
	}
	return n, n > 0
}

// Predict sends a batch and returns what each of its records got.
// It takes fallback.budget at most, waiting for a place, calls and retries
// together. The batch must not change meanwhile. Its error is an *Error, or
// wraps that of ctx.
//
// A server's INVALID_ARGUMENT may blame the records, but the request as well: a
// signature that has changed, a label that was taken back. So for one record
// alone the server is asked once more with a blank one in its place, if one is
// known, and only if that is answered the record is to blame.
func (c *Client) Predict(ctx context.Context, b Batch) (Answer, error) {
	n, ok := b.rows()
	if !ok {
		return Answer{}, fmt.Errorf("predict: want 1 to %d records, as many of each input", maxRows)
	}
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
	if cmp.Or(b.Records, n) != 1 || KindOf(err) != KindInput || b.Blank == nil {
		return a, err
	}
	blank, blankErr := b.Blank()
	if blankErr != nil {
		return Answer{}, errors.Join(err, blankErr)
	}
	b.Inputs = blank
	_, blankErr = c.predict(ctx, b, n)
	if blankErr == nil {
		return Answer{}, err
	}
	if e := new(Error); errors.As(blankErr, &e) && e.Kind == KindInput {
		e.Message += " (and so for a blank one)"
	}
	return Answer{}, asRefused(blankErr)
}

func (c *Client) predict(ctx context.Context, b Batch, n int) (Answer, error) {
	spec := c.spec(b)
	request := &tfpb.PredictRequest{
		ModelSpec:    c.modelSpec(spec, b.Signature),
		Inputs:       b.Inputs,
		OutputFilter: b.outputs(),
	}
	if len(b.Fixed) > 0 {
		request.Inputs = maps.Clone(b.Inputs)
		maps.Copy(request.Inputs, b.Fixed)
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
		request: request, response: &response, maxBytes: b.maxAnswerBytes(n),
		read: func(from string) error {
			var err error
			if answer, err = b.read(response.GetOutputs(), n); err != nil {
				return c.badAnswer("predict", "%v", err)
			}
			answer.Version, answer.Server = told(response.GetModelSpec()), from
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
		return asked{label: b.Label, version: NoVersion}
	}
	if c.config.Label != "" {
		return asked{label: c.config.Label, version: NoVersion}
	}
	if c.config.Version == SameVersion {
		return asked{version: b.Version}
	}
	return asked{version: NoVersion}
}

func (c *Client) modelSpec(a asked, signature string) *tfpb.ModelSpec {
	spec := &tfpb.ModelSpec{Name: c.config.Model, SignatureName: signature}
	switch {
	case a.label != "":
		spec.VersionChoice = &tfpb.ModelSpec_VersionLabel{VersionLabel: a.label}
	case a.version >= 0:
		spec.VersionChoice = &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(a.version)}
	}
	return spec
}

// told is the version that an answer is from.
func told(spec *tfpb.ModelSpec) int64 {
	if spec.GetVersion() == nil {
		return NoVersion
	}
	return max(spec.GetVersion().GetValue(), NoVersion)
}

// checkVersion holds fallback.version=same.
func (c *Client) checkVersion(op string, want, got int64) error {
	switch {
	case c.config.Version == AnyVersion || want < 0 || got == want:
		return nil
	case got < 0:
		return c.wrongVersion(op, "the server does not tell its version, want %d: with fallback.version=any it may answer", want)
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
