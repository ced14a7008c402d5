package savedmodel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
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

// maxFrozenFile bounds a saved_model.pb that is read whole; variables are not
// in it.
const maxFrozenFile = 128 << 20

// loadFrozen loads the version in dir, whose graph is given, without TensorFlow's loader.
func loadFrozen(ctx context.Context, dir string, mg *tfpb.MetaGraphDef, o Options) (*Model, error) {
	if err := onlyCPU(o); err != nil {
		return nil, err
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
	precision, whyFloat32 := o.Precision.available(kernels)
	var (
		s       *Session
		watched map[signatureOutput][]string
	)
	for except := []string(nil); s == nil; {
		g, err := freeze(mg, ops, values, newBudget(ctx))
		if err != nil {
			return nil, err
		}
		g.fuse(kernels, except)
		if err := g.watch(); err != nil {
			return nil, err
		}
		if precision == PrecisionBFloat16 && !g.narrow() {
			precision, whyFloat32 = PrecisionFloat32, "no convolution would gain by bfloat16"
		}
		watched = g.watched
		s, except, err = g.session(o, except)
		switch {
		case ctx.Err() != nil && s == nil:
			return nil, ctx.Err()
		case err != nil && precision == PrecisionBFloat16 && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrDiverged):
			precision, whyFloat32 = PrecisionFloat32, "its graph is refused: "+err.Error()
		case err != nil:
			return nil, err
		}
	}
	m := &Model{
		Session: s, Tags: mg.GetMetaInfoDef().GetTags(), Signatures: signaturesOf(mg),
		Frozen: true, Kernels: kernels, Precision: precision, WhyFloat32: whyFloat32,
		watched: watched,
	}
	ctf.TrimMemory()
	debug.FreeOSMemory() // some 30 MB of messages, in 10 ms
	return m, nil
}

// reason is why loadFrozen leaves a model to TensorFlow's loader.
func reason(err error) string { return strings.TrimPrefix(err.Error(), errRefused.Error()+": ") }

// onlyCPU refuses where there is another device: what is fused here is for
// the processor, and TensorFlow's optimizer knows better what suits a card.
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
			return refuse("there is a device of type %s", t)
		}
	}
	return nil
}

// operations are those that the open library knows, by name: what they give,
// and whether they have state. The whole list takes 30 ms to come by, so it is
// asked for only once.
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

// readMetaGraphDef reads the graph that has exactly these tags. Whatever is
// wrong with the file, TensorFlow's loader will tell.
func readMetaGraphDef(dir string, tags []string) (*tfpb.MetaGraphDef, error) {
	name := filepath.Join(dir, graphFile)
	st, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxFrozenFile {
		return nil, refuse("%s has %d bytes, the limit is %d", graphFile, st.Size(), maxFrozenFile)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var file tfpb.SavedModel
	if err := proto.Unmarshal(b, &file); err != nil {
		return nil, refuse("%s: %v", graphFile, err)
	}
	for _, mg := range file.GetMetaGraphs() {
		if sameTags(mg.GetMetaInfoDef().GetTags(), tags) {
			return mg, nil
		}
	}
	return nil, refuse("%s has no graph with the tags %q", graphFile, tags)
}

// loadedName is the tensor that is fetched when all weights have arrived.
const loadedName = "inceptor/loaded"

// session makes a session of the graph and gives its variables their values.
// They stay in the memory that they were read into: the only copy, which all
// signatures share. As constants they would be in the graph, and once more in
// the kernels of each signature. Without a session it returns what must not be
// fused, beyond the exceptions so far.
func (g *frozenGraph) session(o Options, except []string) (*Session, []string, error) {
	config, err := g.config(o)
	if err != nil {
		return nil, nil, err
	}
	def, names := g.def()
	s, err := openSession(def, config)
	if err != nil {
		return nil, nil, err
	}
	odd, err := g.notFusible(s, except)
	if err == nil && len(odd) == 0 {
		if err = g.load(s, names); err == nil {
			return s, nil, nil
		}
	}
	_ = s.Close() // the first error is the one to tell
	return nil, append(odd, except...), err
}

func (g *frozenGraph) config(o Options) ([]byte, error) {
	config, err := o.message()
	if err != nil {
		return nil, err
	}
	rewrite := &tfpb.RewriterConfig{DisableMetaOptimizer: g.finished()}
	if oneDNNOn() { // what the remapper fuses hides NaN then, in functions too
		rewrite.Remapping = tfpb.RewriterConfig_OFF
	}
	config.GraphOptions = &tfpb.GraphOptions{RewriteOptions: rewrite}
	// Nothing is added later, so the session need not keep what it began with.
	config.Experimental.OptimizeForStaticGraph = true
	config.Experimental.DisableOutputPartitionGraphs = true
	return proto.Marshal(config)
}

// def is the graph with what sets its variables, and the variables' names.
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
	for _, name := range g.starts {
		loaded.Input = append(loaded.Input, "^"+name)
	}
	def.Node = append(def.Node, loaded)
	return def, names
}

// load reads the weights and gives them to the session's variables, and fills
// its tables.
func (g *frozenGraph) load(s *Session, names []string) error {
	var (
		feeds  []string
		inputs []*Tensor
	)
	defer func() {
		for _, t := range inputs {
			t.Close() // the variable holds it as well
		}
	}()
	for _, name := range names {
		w := g.weights[name]
		if err := w.check(g.values); err != nil {
			return err
		}
		t, err := NewTensor(DataType(g.nodes[name].GetAttr()["dtype"].GetType()), w.entry.shape...)
		if err != nil {
			return fmt.Errorf("variable %q: %w", name, err)
		}
		inputs = append(inputs, t)
		if err := w.read(g.values, t.Bytes()); err != nil {
			return err
		}
		feeds = append(feeds, name+"/inceptor_value:0")
	}
	for node, path := range g.assets {
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

// check tells whether the checkpoint's files have the weight's bytes.
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

// read fills dst with the weight's value.
func (w *weight) read(from *checkpoint, dst []byte) error {
	if w.narrow {
		full := make([]byte, w.entry.size)
		wide := *w
		wide.narrow = false
		if err := wide.read(from, full); err != nil {
			return err
		}
		narrowFloats(dst, full)
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
