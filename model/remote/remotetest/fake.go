package remotetest

import (
	"cmp"
	"context"
	"encoding/binary"
	"math"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"inceptor/savedmodel/tfpb"
)

// Keys of the fake's signatures. "serving_default" takes pixels of 1×1,
// "serving_bytes" encoded images.
const (
	PixelsSignature = "serving_default"
	BytesSignature  = "serving_bytes"
	PixelsInput     = "images"
	BytesInput      = "image_bytes"
	Output          = "scores"
)

// Poison is the first byte of an encoded image, or the first element of pixels, that the fake
// refuses as a model would.
const Poison = 13

// A Fake is a Service whose scores identify their image: class 0 has the image's first
// element, the other classes have 0. It refuses what TensorFlow Serving refuses, with the
// same codes.
type Fake struct {
	Model    string
	Versions []int64          // that are loaded, the highest last
	Labels   map[string]int64 // versions by label
	Classes  int
	Scores   string // key of the output; empty: Output
	// PredictAlone makes it behave like a proxy that forwards Predict alone, and does not
	// report which version has answered.
	PredictAlone bool

	// Hook, if not nil, is called before each Predict. It may be slow, and may return a
	// response or an error to answer in its place.
	Hook atomic.Pointer[func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error)]

	Calls atomic.Int64 // of Predict
	Most  atomic.Int64 // calls of Predict at once, so far

	now atomic.Int64
}

// NewFake returns a fake with version 1 and five classes.
func NewFake(model string) *Fake {
	return &Fake{Model: model, Versions: []int64{1}, Labels: map[string]int64{}, Classes: 5}
}

// SetHook sets the hook; nil removes it.
func (f *Fake) SetHook(hook func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error)) {
	if hook == nil {
		f.Hook.Store(nil)
		return
	}
	f.Hook.Store(&hook)
}

// Some of gRPC's codes, for tests that do not import it.
const (
	Internal         = codes.Internal
	InvalidArgument  = codes.InvalidArgument
	PermissionDenied = codes.PermissionDenied
	Unavailable      = codes.Unavailable
)

// Invalid returns the error by which a server refuses a request.
func Invalid(message string) error { return status.Error(codes.InvalidArgument, message) }

// Fail makes every Predict fail with a code, until SetHook.
func (f *Fake) Fail(code codes.Code, message string) {
	f.SetHook(func(context.Context, *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
		return nil, status.Error(code, message)
	})
}

// Predict implements Service.
func (f *Fake) Predict(ctx context.Context, r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
	f.Calls.Add(1)
	now := f.now.Add(1)
	defer f.now.Add(-1)
	for most := f.Most.Load(); now > most && !f.Most.CompareAndSwap(most, now); most = f.Most.Load() {
	}
	if hook := f.Hook.Load(); hook != nil {
		if response, err := (*hook)(ctx, r); response != nil || err != nil {
			return response, err
		}
	}
	return f.Answer(r)
}

// Answer answers as the fake does without its hook.
func (f *Fake) Answer(r *tfpb.PredictRequest) (*tfpb.PredictResponse, error) {
	version, err := f.version(r.GetModelSpec())
	if err != nil {
		return nil, err
	}
	input := PixelsInput
	switch r.GetModelSpec().GetSignatureName() {
	case "", PixelsSignature:
	case BytesSignature:
		input = BytesInput
	default:
		return nil, status.Errorf(codes.FailedPrecondition, "Serving signature key %q not found.", r.GetModelSpec().GetSignatureName())
	}
	t, ok := r.GetInputs()[input]
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "input tensor alias not found in signature")
	}
	first, err := firstElements(t)
	if err != nil {
		return nil, err
	}
	if slices.Contains(first, Poison) {
		return nil, status.Error(codes.InvalidArgument, "poison")
	}
	scores := make([]float32, len(first)*f.Classes)
	for i, v := range first {
		scores[i*f.Classes] = v
	}
	for _, key := range r.GetOutputFilter() {
		if key != f.output() {
			return nil, status.Errorf(codes.InvalidArgument, "output tensor alias not found in signature: %s Outputs expected to be in the set {%s}.", key, f.output())
		}
	}
	response := &tfpb.PredictResponse{
		ModelSpec: f.spec(version, r.GetModelSpec().GetSignatureName()),
		Outputs:   map[string]*tfpb.TensorProto{f.output(): Scores(len(first), f.Classes, scores...)},
	}
	if f.PredictAlone {
		response.ModelSpec = nil
	}
	return response, nil
}

func (f *Fake) output() string { return cmp.Or(f.Scores, Output) }

// Scores returns a tensor of scores.
func Scores(n, classes int, values ...float32) *tfpb.TensorProto {
	return &tfpb.TensorProto{Dtype: tfpb.DataType_DT_FLOAT, TensorShape: shape(n, classes), FloatVal: values}
}

func shape(dims ...int) *tfpb.TensorShapeProto {
	s := &tfpb.TensorShapeProto{}
	for _, d := range dims {
		s.Dim = append(s.Dim, &tfpb.TensorShapeProto_Dim{Size: int64(d)})
	}
	return s
}

// firstElements returns the first element of each image.
func firstElements(t *tfpb.TensorProto) ([]float32, error) {
	dims := t.GetTensorShape().GetDim()
	if len(dims) == 0 {
		return nil, status.Error(codes.InvalidArgument, "a scalar")
	}
	n := int(dims[0].GetSize())
	var first []float32
	if t.GetDtype() == tfpb.DataType_DT_STRING {
		for _, s := range t.GetStringVal() {
			if len(s) == 0 {
				return nil, status.Error(codes.InvalidArgument, "Input is empty.")
			}
			first = append(first, float32(s[0]))
		}
	} else if n > 0 && len(t.GetTensorContent())%(4*n) == 0 {
		for row := range slices.Chunk(t.GetTensorContent(), max(len(t.GetTensorContent())/n, 4)) {
			first = append(first, math.Float32frombits(binary.LittleEndian.Uint32(row)))
		}
	}
	if len(first) != n || n == 0 {
		return nil, status.Errorf(codes.InvalidArgument, "%d images, shape says %d", len(first), n)
	}
	return first, nil
}

// version returns the version that a request names.
func (f *Fake) version(spec *tfpb.ModelSpec) (int64, error) {
	if spec.GetName() != f.Model {
		return 0, status.Errorf(codes.NotFound, "Servable not found for request: Latest(%s)", spec.GetName())
	}
	switch choice := spec.GetVersionChoice().(type) {
	case *tfpb.ModelSpec_Version:
		if !slices.Contains(f.Versions, choice.Version.GetValue()) {
			return 0, status.Errorf(codes.NotFound, "Servable not found for request: Specific(%s, %d)", f.Model, choice.Version.GetValue())
		}
		return choice.Version.GetValue(), nil
	case *tfpb.ModelSpec_VersionLabel:
		version, ok := f.Labels[choice.VersionLabel]
		if !ok {
			return 0, status.Errorf(codes.InvalidArgument, "Unrecognized servable version label: %s", choice.VersionLabel)
		}
		return version, nil
	}
	if len(f.Versions) == 0 {
		return 0, status.Errorf(codes.NotFound, "Servable not found for request: Latest(%s)", f.Model)
	}
	return f.Versions[len(f.Versions)-1], nil
}

func (f *Fake) spec(version int64, signature string) *tfpb.ModelSpec {
	return &tfpb.ModelSpec{Name: f.Model, VersionChoice: &tfpb.ModelSpec_Version{Version: wrapperspb.Int64(version)}, SignatureName: signature}
}

// GetModelMetadata implements Service.
func (f *Fake) GetModelMetadata(_ context.Context, r *tfpb.GetModelMetadataRequest) (*tfpb.GetModelMetadataResponse, error) {
	if f.PredictAlone {
		return nil, status.Error(codes.Unimplemented, "unknown method GetModelMetadata")
	}
	version, err := f.version(r.GetModelSpec())
	if err != nil {
		return nil, err
	}
	if !slices.Equal(r.GetMetadataField(), []string{"signature_def"}) {
		return nil, status.Errorf(codes.InvalidArgument, "Metadata field %q is not supported", r.GetMetadataField())
	}
	info := func(dtype tfpb.DataType, dims ...int) *tfpb.TensorInfo {
		return &tfpb.TensorInfo{Encoding: &tfpb.TensorInfo_Name{Name: "t:0"}, Dtype: dtype, TensorShape: shape(dims...)}
	}
	outputs := map[string]*tfpb.TensorInfo{f.output(): info(tfpb.DataType_DT_FLOAT, -1, f.Classes)}
	signatures, err := anypb.New(&tfpb.SignatureDefMap{SignatureDef: map[string]*tfpb.SignatureDef{
		PixelsSignature: {Inputs: map[string]*tfpb.TensorInfo{PixelsInput: info(tfpb.DataType_DT_FLOAT, -1, 1, 1, 3)}, Outputs: outputs},
		BytesSignature:  {Inputs: map[string]*tfpb.TensorInfo{BytesInput: info(tfpb.DataType_DT_STRING, -1)}, Outputs: outputs},
	}})
	if err != nil {
		return nil, err
	}
	return &tfpb.GetModelMetadataResponse{
		ModelSpec: f.spec(version, ""),
		Metadata:  map[string]*anypb.Any{"signature_def": signatures},
	}, nil
}

// GetModelStatus implements Service.
func (f *Fake) GetModelStatus(_ context.Context, r *tfpb.GetModelStatusRequest) (*tfpb.GetModelStatusResponse, error) {
	if f.PredictAlone {
		return nil, status.Error(codes.Unimplemented, "unknown service tensorflow.serving.ModelService")
	}
	if r.GetModelSpec().GetName() != f.Model {
		return nil, status.Errorf(codes.NotFound, "Could not find any versions of model %s", r.GetModelSpec().GetName())
	}
	response := &tfpb.GetModelStatusResponse{}
	for _, version := range f.Versions {
		response.ModelVersionStatus = append(response.ModelVersionStatus, &tfpb.ModelVersionStatus{
			Version: version, State: tfpb.ModelVersionStatus_AVAILABLE, Status: &tfpb.StatusProto{},
		})
	}
	return response, nil
}
