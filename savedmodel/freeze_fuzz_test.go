package savedmodel

import (
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

// No graph, however broken, may do more than be refused.
func FuzzFreeze(f *testing.F) {
	openLibrary(f)
	models := []testModel{nestedModel(), loopModel(), narrowModel("first"), {
		variables: map[string]testVariable{"w": filter(1, 2, 2, 3, 4), "mean": vector(4, 2), "variance": vector(4, 3), "beta": vector(4, 4)},
		nodes: append(
			[]*tfpb.NodeDef{input(2, 5, 5, 3), readOf("w"), op("conv", "Conv2D", window(nil), "in", "w/read"), op("out", "Relu", nil, "bn")},
			normalized("", "conv")...,
		),
	}}
	var dir string
	for _, m := range models {
		dir = m.save(f)
		b, err := os.ReadFile(filepath.Join(dir, graphFile))
		must(f, err)
		f.Add(b)
	}
	ops, err := operations()
	must(f, err)
	values, err := openCheckpoint(dir) // the last one's
	must(f, err)
	f.Cleanup(values.close)
	f.Fuzz(func(t *testing.T, b []byte) {
		var file tfpb.SavedModel
		if proto.Unmarshal(b, &file) != nil || len(file.GetMetaGraphs()) == 0 {
			t.Skip()
		}
		g, err := freeze(file.GetMetaGraphs()[0], ops, values)
		if err != nil {
			return
		}
		g.fuse(KernelsOneDNN, nil)
		g.narrow()
		g.finished()
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
		g.def()
	})
}
