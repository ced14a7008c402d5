package savedmodel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
)

// A Model is a loaded SavedModel that is ready to run. It is safe for concurrent use; all fields
// are set once, by Load.
type Model struct {
	*Session
	// Tags of the meta graph that was loaded.
	Tags []string
	// Signatures by key, such as "serving_default".
	Signatures map[string]Signature
	// Frozen says that Load built an optimized graph, with convolutions of the kind Kernels. If
	// Options.Optimize is set but Frozen is false, WhyNot has the reason.
	Frozen  bool
	Kernels Kernels
	WhyNot  string
	// Precision is what the convolutions compute in. If that is float32 although
	// Options.Precision is another one, WhyFloat32 has the reason.
	Precision  Precision
	WhyFloat32 string
	// Int8 is the part of the convolutions' multiplications, from 0 to 1, that runs in int8;
	// if their number depends on the image, it is the part of the filters' elements.
	Int8 float64

	layers []Layer // see Layers
	// finiteChecks are the tensors that a run must fetch as well, for each output of a signature;
	// see addFiniteChecks.
	finiteChecks map[signatureOutput][]string
}

// Load returns the SavedModel in dir, with its variables, ready to run. It opens the library if no
// library is open. Close the model to free its memory.
//
// With o.Optimize, Load builds a graph of its own for the signatures, and reads the weights from
// the checkpoint straight into the memory where they stay. In that graph:
//
//   - the bodies of functions replace the calls;
//   - batch normalization is folded into the filters of convolutions;
//   - each convolution is fused with the BiasAdd and Relu after it.
//
// The inputs and outputs keep their names. The outputs differ by rounding only, unless o.Precision
// asks for less. Load uses TensorFlow's loader instead, and sets Model.WhyNot, if the model does
// more than compute outputs from inputs, variables and lookup tables, or if the work would take
// more than 256 MiB besides the files.
//
// An error about a damaged checkpoint wraps ErrMalformed. One about a weight that is NaN or
// infinite wraps ErrDiverged. When ctx ends, Load returns ctx's error, but not before a call of
// TensorFlow that has begun: that cannot be cancelled.
func Load(ctx context.Context, dir string, o Options) (*Model, error) {
	if err := OpenLibrary(""); err != nil {
		return nil, err
	}
	tags, err := loadedTags(dir, o.Tags)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	mg, err := readMetaGraphDef(dir, tags)
	whyNot := ""
	if o.Optimize {
		var m *Model
		if err == nil {
			m, err = loadFrozen(ctx, dir, mg, o)
		}
		switch {
		case err == nil:
			return m, nil
		case errors.Is(err, ErrMalformed), errors.Is(err, ErrDiverged), ctx.Err() != nil:
			return nil, fmt.Errorf("load %s: %w", dir, err)
		}
		whyNot = reason(err)
	}
	if mg != nil {
		if err := checkWeights(ctx, dir, mg); err != nil {
			return nil, fmt.Errorf("load %s: %w", dir, err)
		}
		debug.FreeOSMemory() // before TensorFlow reads it all again
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	m, err := loadPlain(dir, tags, o)
	if err != nil {
		return nil, err
	}
	m.WhyNot = whyNot
	if o.Precision != PrecisionFloat32 {
		m.WhyFloat32 = "the model is not optimized"
	}
	return m, nil
}

// loadPlain loads the graph with these tags with TensorFlow's own loader.
func loadPlain(dir string, tags []string, o Options) (*Model, error) {
	config, err := o.message()
	if err != nil {
		return nil, err
	}
	if oneDNNOn() { // a Relu that the remapper fuses hides NaN then: see addFiniteChecks
		config.GraphOptions = &tfpb.GraphOptions{RewriteOptions: &tfpb.RewriterConfig{Remapping: tfpb.RewriterConfig_OFF}}
	}
	serialized, err := proto.Marshal(config)
	if err != nil {
		return nil, err
	}
	graph := ctf.NewGraph()
	session, meta, err := ctf.LoadSessionFromSavedModel(serialized, dir, tags, graph)
	if err != nil {
		graph.Delete()
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	m := &Model{Session: &Session{graph: graph, session: session}}
	mg := new(tfpb.MetaGraphDef)
	if err := proto.Unmarshal(meta, mg); err != nil {
		_ = m.Close() // the first error is the one to report
		return nil, fmt.Errorf("load %s: meta graph: %w", dir, err)
	}
	m.Tags = mg.GetMetaInfoDef().GetTags()
	m.Signatures = signaturesOf(mg)
	return m, nil
}

// Signature returns the signature with this key. The error lists the keys that there are.
func (m *Model) Signature(key string) (Signature, error) {
	s, ok := m.Signatures[key]
	if !ok {
		return Signature{}, fmt.Errorf("model has no signature %q, only %q", key, slices.Sorted(maps.Keys(m.Signatures)))
	}
	return s, nil
}

// SignatureFunction returns a function that runs a signature. It takes the inputs, and returns the
// outputs, in the order of the keys given here.
func (m *Model) SignatureFunction(key string, inputs, outputs []string) (*Function, error) {
	s, err := m.Signature(key)
	if err != nil {
		return nil, err
	}
	feeds, err := tensorNames(s.Inputs, inputs)
	if err != nil {
		return nil, fmt.Errorf("signature %q: input %w", key, err)
	}
	fetches, err := tensorNames(s.Outputs, outputs)
	if err != nil {
		return nil, fmt.Errorf("signature %q: output %w", key, err)
	}
	checks := m.checksFor(key, fetches)
	f, err := m.Function(feeds, slices.Concat(fetches, checks))
	if err != nil {
		return nil, err
	}
	f.checks = len(checks)
	return f, nil
}

// checksFor returns the finite checks that a run must fetch together with these outputs of a
// signature.
func (m *Model) checksFor(signature string, outputs []string) []string {
	var list []string
	for _, name := range outputs {
		list = append(list, m.finiteChecks[signatureOutput{signature, nodeOf(name)}]...)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func tensorNames(of map[string]TensorInfo, keys []string) ([]string, error) {
	names := make([]string, len(keys))
	for i, key := range keys {
		info, ok := of[key]
		if !ok {
			return nil, fmt.Errorf("%q is unknown; there are %q", key, slices.Sorted(maps.Keys(of)))
		}
		if info.Encoding != "" {
			return nil, fmt.Errorf("%q is %s, not one dense tensor", key, info.Encoding)
		}
		names[i] = info.Name
	}
	return names, nil
}

// Run runs a signature once and returns a tensor for each of its outputs, which the caller closes.
// It needs a tensor for each of the signature's inputs. To run a signature often, use
// SignatureFunction, which looks the names up only once.
func (m *Model) Run(ctx context.Context, key string, inputs map[string]*Tensor) (map[string]*Tensor, error) {
	s, err := m.Signature(key)
	if err != nil {
		return nil, err
	}
	in, out := slices.Sorted(maps.Keys(s.Inputs)), slices.Sorted(maps.Keys(s.Outputs))
	values := make([]*Tensor, len(in))
	for i, k := range in {
		t := inputs[k]
		if t == nil {
			return nil, fmt.Errorf("signature %q: no tensor for input %q", key, k)
		}
		if want := s.Inputs[k].DType; t.dtype != want {
			return nil, fmt.Errorf("signature %q: input %q is %v, not %v", key, k, t.dtype, want)
		}
		values[i] = t
	}
	if len(inputs) != len(in) {
		return nil, fmt.Errorf("signature %q takes the inputs %q, not %q", key, in, slices.Sorted(maps.Keys(inputs)))
	}
	f, err := m.SignatureFunction(key, in, out)
	if err != nil {
		return nil, err
	}
	results, err := f.Run(ctx, values...)
	if err != nil {
		return nil, fmt.Errorf("signature %q: %w", key, err)
	}
	outputs := make(map[string]*Tensor, len(out))
	for i, k := range out {
		outputs[k] = results[i]
	}
	return outputs, nil
}
