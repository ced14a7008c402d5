package savedmodel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
)

// maxFrozenFile bounds a saved_model.pb that is read whole. It does not hold the variables.
const maxFrozenFile = 128 << 20

// loadFrozen loads the version in dir with an optimized graph, without TensorFlow's loader.
func loadFrozen(ctx context.Context, dir string, mg *tfpb.MetaGraphDef, o Options) (*Model, error) {
	if err := onlyCPU(o); err != nil {
		return nil, err
	}
	if o.Signature != "" {
		mg = withSignature(mg, o.Signature)
	}
	ops, err := operations()
	if err != nil {
		return nil, err
	}
	kernels, err := o.Kernels.available(ops)
	if err != nil {
		return nil, err
	}
	values, err := openCheckpoint(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer values.close()
	precision, whyFloat32 := o.Precision.available(kernels, ops)
	m := &Model{Tags: mg.GetMetaInfoDef().GetTags(), Signatures: signaturesOf(mg), Frozen: true, Kernels: kernels}
	for except := []string(nil); m.Session == nil; {
		g, err := freeze(mg, ops, values, newLoadBudget(ctx))
		if err != nil {
			return nil, err
		}
		g.fuse(kernels, except)
		if why, err := rewrite(g, precision, o.Ranges); err != nil {
			return nil, err
		} else if why != "" {
			precision, whyFloat32 = PrecisionFloat32, why
		}
		l := graphLoader{g, o, except}
		m.Session, except, err = l.session()
		switch {
		case ctx.Err() != nil && m.Session == nil:
			return nil, ctx.Err()
		case err != nil && precision != PrecisionFloat32 && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrDiverged):
			precision, whyFloat32 = PrecisionFloat32, "TensorFlow refuses its graph: "+err.Error()
		case err != nil:
			return nil, err
		case m.Session != nil:
			m.Precision, m.WhyFloat32, m.finiteChecks = precision, whyFloat32, g.finiteChecks
			m.layers, m.Int8 = l.layers(m.Session)
		}
	}
	ctf.TrimMemory()
	debug.FreeOSMemory() // the messages take some 30 MB; freeing them takes 10 ms
	return m, nil
}

// withSignature returns the graph with this one of the signatures that can be called.
func withSignature(mg *tfpb.MetaGraphDef, key string) *tfpb.MetaGraphDef {
	defs := maps.Clone(mg.GetSignatureDef())
	maps.DeleteFunc(defs, func(k string, _ *tfpb.SignatureDef) bool { return callable(k) && k != key })
	return &tfpb.MetaGraphDef{
		MetaInfoDef: mg.GetMetaInfoDef(), GraphDef: mg.GetGraphDef(), SaverDef: mg.GetSaverDef(), CollectionDef: mg.GetCollectionDef(),
		SignatureDef: defs, AssetFileDef: mg.GetAssetFileDef(),
	}
}

// reason returns the text of an error that wraps errNotOptimized, without that prefix.
func reason(err error) string { return strings.TrimPrefix(err.Error(), errNotOptimized.Error()+": ") }

// onlyCPU returns an error if there is another device. The optimized graph is for the processor;
// TensorFlow's own optimizer knows better what suits a card.
func onlyCPU(o Options) error {
	s, err := NewSession(&tfpb.GraphDef{}, o)
	if err != nil {
		return err
	}
	types, err := s.session.DeviceTypes()
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	for _, t := range types {
		if t != "CPU" {
			return notOptimized("there is a device of type %s", t)
		}
	}
	return nil
}

// operations returns the open library's operations by name, with their outputs and whether they
// have state. The list takes 30 ms to get, so it is cached.
var operations = sync.OnceValues(func() (map[string]*tfpb.OpDef, error) {
	var list tfpb.OpList
	if err := proto.Unmarshal(ctf.AllOps(), &list); err != nil {
		return nil, fmt.Errorf("the library's operations: %w", err)
	}
	ops := make(map[string]*tfpb.OpDef, len(list.GetOp()))
	for _, op := range list.GetOp() {
		for _, result := range op.GetOutputArg() {
			result.Description = ""
		}
		known := &tfpb.OpDef{Name: op.GetName(), OutputArg: op.GetOutputArg(), IsStateful: op.GetIsStateful()}
		if slices.ContainsFunc(op.GetInputArg(), (*tfpb.OpDef_ArgDef).GetIsRef) {
			known.InputArg = op.GetInputArg()
		}
		ops[op.GetName()] = known
	}
	return ops, nil
})

// readMetaGraphDef reads the graph that has exactly these tags. Its errors only say why the graph
// is not optimized: TensorFlow's loader reports what is wrong with the file.
func readMetaGraphDef(dir string, tags []string) (*tfpb.MetaGraphDef, error) {
	name := filepath.Join(dir, graphFile)
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFrozenFile {
		return nil, notOptimized("%s has %d bytes, the limit is %d", graphFile, st.Size(), maxFrozenFile)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var file tfpb.SavedModel
	if err := proto.Unmarshal(b, &file); err != nil {
		return nil, notOptimized("%s: %v", graphFile, err)
	}
	for _, mg := range file.GetMetaGraphs() {
		if sameTags(mg.GetMetaInfoDef().GetTags(), tags) {
			return mg, nil
		}
	}
	return nil, notOptimized("%s has no graph with the tags %q", graphFile, tags)
}

// loadedName is the tensor whose fetch sets all variables and fills all tables.
const loadedName = "inceptor/loaded"

// A graphLoader opens a session of a frozen graph.
type graphLoader struct {
	*frozenGraph
	options Options
	except  []string // convolutions that must not be fused
}

// session opens a session of the graph and sets its variables. The values stay in the memory that
// they were read into, which all signatures share. Constants would be in the graph, and once more
// in the kernels of each signature.
//
// If some convolutions must not be fused, session returns no session but their names, with except.
func (l *graphLoader) session() (*Session, []string, error) {
	config, err := l.config()
	if err != nil {
		return nil, nil, err
	}
	def, names := l.def()
	s, err := openSession(def, config)
	if err != nil {
		return nil, nil, err
	}
	unfused, err := l.notFusible(s)
	if err == nil && len(unfused) == 0 {
		if err = l.load(s, names); err == nil {
			return s, nil, nil
		}
	}
	_ = s.Close() // the first error is the one to report
	return nil, append(unfused, l.except...), err
}

func (l *graphLoader) config() ([]byte, error) {
	config, err := l.options.message()
	if err != nil {
		return nil, err
	}
	rewrite := &tfpb.RewriterConfig{DisableMetaOptimizer: l.skipOptimizer()}
	if oneDNNOn() { // a Relu that the remapper fuses hides NaN then, in functions too
		rewrite.Remapping = tfpb.RewriterConfig_OFF
	}
	config.GraphOptions = &tfpb.GraphOptions{RewriteOptions: rewrite}
	// Nothing is added later, so the session need not keep the original graph.
	config.Experimental.OptimizeForStaticGraph = true
	config.Experimental.DisableOutputPartitionGraphs = true
	return proto.Marshal(config)
}

// def returns the graph, with operations that set its variables, and the variables' names.
func (g *frozenGraph) def() (*tfpb.GraphDef, []string) {
	def := &tfpb.GraphDef{Versions: g.meta.GetGraphDef().GetVersions(), Library: &tfpb.FunctionDefLibrary{}}
	for _, f := range g.library {
		def.Library.Function = append(def.Library.Function, f)
	}
	loaded := &tfpb.NodeDef{Name: loadedName, Op: "Const", Attr: map[string]*tfpb.AttrValue{
		"dtype": typeAttr(tfpb.DataType_DT_BOOL),
		"value": tensorAttr(&tfpb.TensorProto{Dtype: tfpb.DataType_DT_BOOL, TensorShape: shapeMessage(nil), BoolVal: []bool{true}}),
	}}
	var names []string
	for _, name := range g.order {
		n := g.nodes[name]
		def.Node = append(def.Node, n)
		if n.GetOp() != "VarHandleOp" {
			continue
		}
		dtype, value, assign := n.GetAttr()["dtype"], name+"/inceptor_value", name+"/inceptor_assign"
		def.Node = append(def.Node,
			&tfpb.NodeDef{Name: value, Op: "Placeholder", Attr: map[string]*tfpb.AttrValue{"dtype": dtype, "shape": n.GetAttr()["shape"]}},
			&tfpb.NodeDef{Name: assign, Op: "AssignVariableOp", Input: []string{name, value}, Attr: map[string]*tfpb.AttrValue{"dtype": dtype}},
		)
		loaded.Input = append(loaded.Input, "^"+assign)
		names = append(names, name)
	}
	for _, name := range g.initializers {
		loaded.Input = append(loaded.Input, "^"+name)
	}
	def.Node = append(def.Node, loaded)
	return def, names
}

// load reads the weights into the session's variables and fills its tables.
func (l *graphLoader) load(s *Session, names []string) error {
	var (
		feeds  []string
		inputs []*Tensor
	)
	defer func() {
		for _, t := range inputs {
			t.Close() // the variable keeps the memory
		}
	}()
	for _, name := range names {
		w := l.weights[name]
		if err := w.check(l.values); err != nil {
			return err
		}
		t, err := NewTensor(DataType(l.nodes[name].GetAttr()["dtype"].GetType()), w.entry.shape...)
		if err != nil {
			return fmt.Errorf("variable %q: %w", name, err)
		}
		inputs = append(inputs, t)
		if err := w.read(l.values, t.Bytes()); err != nil {
			return err
		}
		feeds = append(feeds, name+"/inceptor_value:0")
	}
	for node, path := range l.assets {
		t, err := NewStringTensor([][]byte{[]byte(path)})
		if err != nil {
			return fmt.Errorf("asset %s: %w", path, err)
		}
		inputs, feeds = append(inputs, t), append(feeds, node+":0")
	}
	f, err := s.Function(feeds, []string{loadedName + ":0"})
	if err != nil {
		return err
	}
	values, results := make([]ctf.Tensor, len(inputs)), make([]ctf.Tensor, 1)
	for i, t := range inputs {
		values[i] = t.c
	}
	if err := s.run(f.feeds, values, f.fetches, results); err != nil {
		return err
	}
	results[0].Delete()
	return nil
}

// check returns an error if the checkpoint's files are too short for the weight.
func (w *weight) check(in *checkpoint) error {
	if w.parts == nil {
		return in.check(w.entry)
	}
	for _, e := range w.parts {
		if err := in.check(e); err != nil {
			return err
		}
	}
	return nil
}

// read fills dst with the weight's value, scaled and converted.
func (w *weight) read(from *checkpoint, dst []byte) error {
	if w.narrow || w.steps != nil {
		full := make([]byte, w.entry.size)
		wide := *w
		wide.narrow, wide.steps = false, nil
		if err := wide.read(from, full); err != nil {
			return err
		}
		if w.narrow {
			narrowFloats(dst, full)
		} else {
			quantizeFloats(dst, full, w.steps)
		}
		return nil
	}
	var err error
	if w.parts == nil {
		err = from.read(w.entry, dst)
	} else {
		err = w.readParts(from, dst)
	}
	if err != nil || w.scale == nil {
		return err
	}
	for len(dst) > 0 {
		for _, s := range w.scale {
			v := s * math.Float32frombits(binary.LittleEndian.Uint32(dst))
			binary.LittleEndian.PutUint32(dst, math.Float32bits(v))
			dst = dst[4:]
		}
	}
	return nil
}
