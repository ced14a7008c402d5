package savedmodel

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

// A broken graph or index of variables is refused, and does no other harm.
func FuzzFreeze(f *testing.F) {
	openLibrary(f)
	foreign := narrowModel("out", op("out", oneDNNConv, nil, "second"), op("more", oneDNNConv, nil, "out", "out", "second"))
	foreign.output = "more:0"
	fed := narrowModel("second")
	fed.input = "w/read:0"
	decided := tableModel(append(condition("in", "merged", "yes", "switch"),
		boolConst("no", false), op("is", "PlaceholderWithDefault", noT(attrs{"dtype": typeAttr(dtBool)}), "no"),
		op("never", "Switch", nil, "merged", "is"), op("yes", "Neg", nil, "switch:1"), op("last", "Merge", attrs{"N": intAttr(2)}, "never", "never:1"),
	)...)
	decided.output = "last:0"
	part := func(v testVariable, slice extent) testVariable {
		v.of, v.whole, v.slice = "whole", Shape{6, 4}, []extent{slice, {0, 4}}
		return v
	}
	models := []testModel{
		nestedModel(), loopModel(), narrowModel("first"), foreign, fed, mappedModel(), tableModel(), decided,
		{
			variables: map[string]testVariable{"a": part(reference(filter(1, 2, 4)), extent{0, 2}), "b": part(reference(filter(2, 4, 4)), extent{2, 4})},
			nodes: []*tfpb.NodeDef{
				input(2, 6), identityOf("a"), identityOf("b"), intConst("axis"),
				op("cat", "ConcatV2", attrs{"N": intAttr(2), "Tidx": typeAttr(dtInt)}, "a/read", "b/read", "axis"), op("out", "MatMul", nil, "in", "cat"),
			},
		},
		{
			variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "mean": vector(4, 2), "variance": vector(4, 3), "beta": vector(4, 4)},
			nodes: append(
				[]*tfpb.NodeDef{input(2, 5, 5, 3), readOf("w"), op("conv", "Conv2D", window(nil), "in", "w/read"), op("out", "Relu", nil, "bn")},
				normalized("", "conv")...,
			),
		},
		{
			variables: map[string]testVariable{"w": {shape: Shape{3, 0}}, "e": {shape: Shape{0}}, "huge": {shape: Shape{0, 1 << 40, 1 << 40}}},
			nodes: []*tfpb.NodeDef{
				input(2, 3), readOf("w"), readOf("e"), readOf("huge"), floatConst("one", Shape{1}, []float32{1}),
				op("p", "MatMul", nil, "in", "w/read"), op("m", "Mul", nil, "p", "e/read"),
				op("conv", "Conv2D", window(nil), "m", "huge/read"), op("scaled", "Mul", nil, "conv", "one"),
				op("e2", "Mul", nil, "one", "e/read"), intConst("shape", 0, -1), op("r", "Reshape", nil, "e2", "shape"),
				op("out", "AddV2", nil, "scaled", "r"),
			},
		},
	}
	for _, m := range models {
		dir := m.save(f)
		graph, err := os.ReadFile(filepath.Join(dir, graphFile))
		must(f, err)
		table, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(indexFile)))
		must(f, err)
		shard, err := os.ReadFile(filepath.Join(dir, variablesPrefix+".data-00000-of-00001"))
		must(f, err)
		var entries []tableEntry
		must(f, walkTable(table, func(key, value []byte) error {
			entries = append(entries, tableEntry{string(key), string(value)})
			return nil
		}))
		f.Add(graph, blockOf(entries), shard)
	}
	ops, err := operations()
	must(f, err)
	file, err := os.CreateTemp(f.TempDir(), "shard")
	must(f, err)
	f.Cleanup(func() { _ = file.Close() })
	f.Fuzz(func(t *testing.T, graph, block, shard []byte) {
		var saved tfpb.SavedModel
		if proto.Unmarshal(graph, &saved) != nil || len(saved.GetMetaGraphs()) == 0 {
			t.Skip()
		}
		index, err := parseBundleIndex(new(tableBuilder).data(block, tableUncompressed).finish())
		if err != nil {
			t.Skip()
		}
		must(t, file.Truncate(0))
		_, err = file.WriteAt(shard, 0)
		must(t, err)
		values := newCheckpoint("", index)
		values.shards[0] = file

		g, err := freeze(saved.GetMetaGraphs()[0], ops, values, newLoadBudget(t.Context()))
		if err != nil {
			return
		}
		g.fuse(KernelsOneDNN, nil)
		g.narrow()
		g.skipOptimizer()
		if g.addFiniteChecks() != nil {
			return
		}
		for _, name := range g.order {
			if n := g.nodes[name]; n.GetName() != name {
				t.Errorf("operation %q is called %q", name, n.GetName())
			}
			for _, in := range g.nodes[name].GetInput() {
				if g.nodes[nodeOf(in)] == nil {
					t.Errorf("operation %q needs %q, which is gone", name, in)
				}
			}
		}
		_, names := g.def()
		for _, name := range names {
			w := g.weights[name]
			if w.check(values) != nil {
				continue // before memory is taken
			}
			size := w.entry.size
			if w.narrow {
				size /= 2
			}
			_ = w.read(values, make([]byte, size))
		}
	})
}
