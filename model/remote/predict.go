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

// Bounds of messages. They are generous: the scores of an image are kilobytes, and most
// servers have a lower limit.
const (
	maxRows         = 1024
	maxRequestBytes = 1 << 30   // below protobuf's own limit, 2 GiB
	baseAnswerBytes = 1 << 20   // all but the outputs
	rowAnswerBytes  = 256 << 10 // 65,536 classes
	rowWordBytes    = 2 << 20   // 65,536 words of 32 bytes
	rowArrayBytes   = 4 << 20   // more than a prediction may have
)

// NoVersion means any version in a request, and a version that is not reported in an
// answer. Versions are numbered from 0.
const NoVersion = -1

// A Batch is the request of one Predict.
type Batch struct {
	Signature string // its key; empty: the server's "serving_default"
	Output    string // key of the output with the scores; empty: none is requested
	// ClassOutput is the key of the output with the class of each score, of type string,
	// int64 or int32; empty: the index of a score is its class.
	ClassOutput string
	// Arrays are the keys of outputs to return unchanged.
	Arrays []string
	// Returned maps the key of an output to that of the input that it must equal.
	Returned map[string]string
	// Inputs are those of the signature, by key. Each has a row for each record.
	Inputs map[string]*tfpb.TensorProto
	// Records is how many of the rows are records; 0: all. The rows after them fill the
	// batch, and are answered as well.
	Records int
	// Fixed are inputs that are the same in every batch, of any shape.
	Fixed map[string]*tfpb.TensorProto
	// Blank returns Inputs with as many rows, of records that every such model accepts;
	// nil: none is known.
	Blank func() (map[string]*tfpb.TensorProto, error)

	// Version is the one that would serve locally; NoVersion: there is none. With
	// fallback.version=same no other may answer.
	Version int64
	// Label is requested in place of a version, and in place of fallback.label.
	Label string
	// AllOutputs requests all outputs, since the server may not have one called Output.
	// If it has none, the only output that fits is read.
	AllOutputs bool
	// Classes is how many scores each record must have; 0: any number, the same for all.
	Classes int
}

// An Answer is the response to a Batch.
type Answer struct {
	Scores  [][]float32        // a row for each record; not checked for NaN
	Words   [][]byte           // the class of each score, of all rows, if ClassOutput has strings
	Numbers []int64            // the same, if it has integers
	Arrays  []savedmodel.Array // of the whole batch, in the order of Batch.Arrays
	Version int64              // that has answered; NoVersion: the server does not report it
	Server  string             // that has answered, host:port
	Took    time.Duration
}

// Numbers returns a tensor of rows of one shape, such as decoded images. Each row holds
// its elements in the layout of tensor_content, little endian. The dtype must have a
// fixed size.
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

// Strings returns a tensor of strings, which it does not copy. Its rows have one shape; nil:
// each row is one string.
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

// rows returns how many rows the inputs have; false: none, too many, or not all as many.
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

// Predict sends a batch and returns the scores of its records. It takes at most
// fallback.budget, which includes the wait for its turn, calls and retries. The batch must
// not change meanwhile. The error is an *Error, or wraps that of ctx.
//
// INVALID_ARGUMENT from the server may blame the records or the request: a signature may
// have changed, or a label may be gone. So Predict repeats the call for a single record
// with a blank one in its place, if one is known. The record is to blame only if the
// server answers that.
func (c *Client) Predict(ctx context.Context, b Batch) (Answer, error) {
	n, ok := b.rows()
	if !ok {
		return Answer{}, fmt.Errorf("predict: want 1 to %d records, as many of each input", maxRows)
	}
	ctx, cancel := c.withBudget(ctx)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return Answer{}, c.noSlot(ctx)
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
		e.Message += " (and also for a blank record)"
	}
	return Answer{}, asRefused(blankErr)
}

func (c *Client) predict(ctx context.Context, b Batch, n int) (Answer, error) {
	choice := c.choose(b)
	request := &tfpb.PredictRequest{
		ModelSpec:    c.modelSpec(choice, b.Signature),
		Inputs:       b.Inputs,
		OutputFilter: b.outputs(),
	}
	if len(b.Fixed) > 0 {
		request.Inputs = maps.Clone(b.Inputs)
		maps.Copy(request.Inputs, b.Fixed)
	}
	if size := proto.Size(request); size > maxRequestBytes {
		return Answer{}, &Error{
			Kind: KindTooLarge, Op: "predict", Server: c.config.Address, Code: codes.ResourceExhausted.String(),
			Message: fmt.Sprintf("a request of %d bytes is larger than max %d", size, maxRequestBytes),
		}
	}
	var (
		response tfpb.PredictResponse
		answer   Answer
	)
	start := time.Now()
	err := c.callWithRetries(ctx, call{
		op: "predict", method: predictMethod, choice: choice, closesBreaker: true,
		request: request, response: &response, maxBytes: b.maxAnswerBytes(n),
		read: func(server string) error {
			var err error
			if answer, err = b.read(response.GetOutputs(), n); err != nil {
				return c.badAnswer("predict", "%v", err)
			}
			answer.Version, answer.Server = versionIn(response.GetModelSpec()), server
			return c.checkVersion("predict", b.Version, answer.Version)
		},
	})
	if err != nil {
		return Answer{}, err
	}
	answer.Took = time.Since(start)
	return answer, nil
}

// choose returns the version or label to request for a batch.
func (c *Client) choose(b Batch) versionChoice {
	if b.Label != "" {
		return versionChoice{label: b.Label, version: NoVersion}
	}
	if c.config.Label != "" {
		return versionChoice{label: c.config.Label, version: NoVersion}
	}
	if c.config.Version == SameVersion {
		return versionChoice{version: b.Version}
	}
	return versionChoice{version: NoVersion}
}

func (c *Client) modelSpec(v versionChoice, signature string) *tfpb.ModelSpec {
	spec := &tfpb.ModelSpec{Name: c.config.Model, SignatureName: signature}
	switch {
	case v.label != "":
		spec.VersionChoice = &tfpb.ModelSpec_VersionLabel{VersionLabel: v.label}
	case v.version >= 0:
		spec.VersionChoice = &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(v.version)}
	}
	return spec
}

// versionIn returns the version that a response is from.
func versionIn(spec *tfpb.ModelSpec) int64 {
	if spec.GetVersion() == nil {
		return NoVersion
	}
	return max(spec.GetVersion().GetValue(), NoVersion)
}

// checkVersion enforces fallback.version=same.
func (c *Client) checkVersion(op string, want, got int64) error {
	switch {
	case c.config.Version == AnyVersion || want < 0 || got == want:
		return nil
	case got < 0:
		return c.wrongVersion(op, "the server does not report its version, want %d: set fallback.version=any to accept that", want)
	}
	return c.wrongVersion(op, "version %d has answered, want %d", got, want)
}

// noSlot returns the error of a batch whose turn did not come.
func (c *Client) noSlot(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errBudget) {
		return &Error{
			Kind: KindUnavailable, Op: "predict", Server: c.config.Address,
			Message: fmt.Sprintf("not called: %d batches were under way for all of %v", c.config.Concurrency, c.config.Budget),
		}
	}
	return fmt.Errorf("predict at %s: %w", c.config.Address, context.Cause(ctx))
}
