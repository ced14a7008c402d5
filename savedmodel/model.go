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

// A Model is a SavedModel whose variables are loaded. Safe for concurrent use.
type Model struct {
	*Session
	// Tags of the meta graph that was loaded.
	Tags []string
	// Signatures by key, such as "serving_default".
	Signatures map[string]Signature
	// Frozen: Load has made an optimized graph, whose convolutions are those
	// of Kernels. Otherwise WhyNot says why not, if that was asked for.
	Frozen  bool
	Kernels Kernels
	WhyNot  string
	// Precision is what the convolutions compute in. If that is float32 but
	// bfloat16 was asked for, WhyFloat32 says why.
	Precision  Precision
	WhyFloat32 string

	watched map[signatureOutput][]string // what a run fetches beside an output; see watch
}

// Load reads the SavedModel in dir, variables and all. It opens the library if
// that was not done. Close the model to give its memory back.
//
// TensorFlow's own loader does it, unless o.Optimize is set and the model does
// no more than to compute outputs from inputs, variables and tables that it
// fills when it starts. Then the graph is made here, for the signatures alone: calls of functions are replaced by
// their bodies, batch normalization goes into the filters of convolutions,
// what follows a convolution becomes a part of it, and the weights come
// straight from the checkpoint's files, each into the memory where it stays.
// Besides what the files hold, that takes some 256 MiB at most, or it is not done.
// Names of inputs and outputs remain; outputs differ by rounding only, unless
// o.Precision asks for less. Where this cannot be done, WhyNot tells, and TensorFlow's loader is used. A
// checkpoint that is damaged is an error that wraps ErrMalformed.
//
// In either way weights that are not finite are an error, which wraps ErrDiverged. When ctx ends,
// Load returns its error; but a call of TensorFlow's cannot be cancelled, and is waited for.
func Load(ctx context.Context, dir string, o Options) (*Model, error) {
	if err := OpenLibrary(""); err != nil {
		return nil, err
	}
	whyNot, whyFloat32 := "", ""
	if o.Precision != PrecisionFloat32 {
		whyFloat32 = "the model is not optimized"
	}
	tags, err := loadedTags(dir, o.Tags)
	if err != nil {
		return nil, fmt.Errorf("load %s: %w", dir, err)
	}
	mg, err := readMetaGraphDef(dir, tags)
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
	config, err := o.message()
	if err != nil {
		return nil, err
	}
	if oneDNNOn() { // what the remapper fuses hides NaN then: see watch
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
	m := &Model{Session: &Session{graph: graph, session: session}, WhyNot: whyNot, WhyFloat32: whyFloat32}
	mg = new(tfpb.MetaGraphDef)
	if err := proto.Unmarshal(meta, mg); err != nil {
		_ = m.Close() // the first error is the one to tell
		return nil, fmt.Errorf("load %s: meta graph: %w", dir, err)
	}
	m.Tags = mg.GetMetaInfoDef().GetTags()
	m.Signatures = signaturesOf(mg)
	return m, nil
}

// Signature looks a signature up by its key.
func (m *Model) Signature(key string) (Signature, error) {
	s, ok := m.Signatures[key]
	if !ok {
		return Signature{}, fmt.Errorf("model has no signature %q, only %q", key, slices.Sorted(maps.Keys(m.Signatures)))
	}
	return s, nil
}

// SignatureFunction resolves a signature's inputs and outputs, each by its
// key and in the order given, to a function that can be run many times.
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
	watches := m.watches(key, fetches)
	f, err := m.Function(feeds, slices.Concat(fetches, watches))
	if err != nil {
		return nil, err
	}
	f.watches = len(watches)
	return f, nil
}

// watches are what a run must fetch beside these outputs of a signature, so that it fails if what it makes of its
// input is not finite.
func (m *Model) watches(signature string, outputs []string) []string {
	var list []string
	for _, name := range outputs {
		list = append(list, m.watched[signatureOutput{signature, nodeOf(name)}]...)
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

// Run runs a signature once, with a tensor for each of its inputs, and returns
// one for each of its outputs; the caller closes them. What is run often goes
// through SignatureFunction, which looks names up only once.
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
