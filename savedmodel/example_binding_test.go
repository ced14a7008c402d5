package savedmodel_test

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
)

// What a program does with the Go binding or tfgo, done with this package. It needs TensorFlow's
// library.
func Example_tensorFlowBinding() {
	if err := fromTheBinding(context.Background()); err != nil {
		fmt.Println(err)
	}
	// Output:
	// serving_default takes [N, 4]
	// [1, 3] [0.154 0.154 0.691]
	// the same: [0.154 0.154 0.691]
	// ["a" "b"]
}

func fromTheBinding(ctx context.Context) error {
	m, err := savedmodel.Load(ctx, "testdata/tiny", savedmodel.Options{Tags: []string{"serve"}})
	if err != nil {
		return err
	}
	defer m.Close()
	signature, err := m.Signature("serving_default")
	if err != nil {
		return err
	}
	fmt.Println("serving_default takes", signature.Inputs["features"].Shape)

	features, err := savedmodel.NewTensor(savedmodel.Float32, 1, 4)
	if err != nil {
		return err
	}
	defer features.Close()
	values, err := savedmodel.Data[float32](features)
	if err != nil {
		return err
	}
	copy(values, []float32{0.1, 0.2, 0.3, 0.4})

	// Look the names up once, and run as often as needed.
	f, err := m.SignatureFunction("serving_default", []string{"features"}, []string{"scores"})
	if err != nil {
		return err
	}
	results, err := f.Run(ctx, features)
	if err != nil {
		return err
	}
	defer results[0].Close()
	scores, err := savedmodel.Data[float32](results[0])
	if err != nil {
		return err
	}
	fmt.Printf("%v %.3f\n", results[0].Shape(), scores)

	// Or run it once.
	byKey, err := m.Run(ctx, "serving_default", map[string]*savedmodel.Tensor{"features": features})
	if err != nil {
		return err
	}
	defer byKey["scores"].Close()
	again, err := savedmodel.Data[float32](byKey["scores"])
	if err != nil {
		return err
	}
	fmt.Printf("the same: %.3f\n", again)
	return fromAGraph(ctx)
}

// fromAGraph runs a graph without a SavedModel, on strings.
func fromAGraph(ctx context.Context) error {
	str := func(of string) map[string]*tfpb.AttrValue {
		return map[string]*tfpb.AttrValue{of: {Value: &tfpb.AttrValue_Type{Type: tfpb.DataType_DT_STRING}}}
	}
	graphDef := &tfpb.GraphDef{Node: []*tfpb.NodeDef{
		{Name: "x", Op: "Placeholder", Attr: str("dtype")},
		{Name: "y", Op: "Identity", Input: []string{"x"}, Attr: str("T")},
	}}
	s, err := savedmodel.NewSession(graphDef, savedmodel.Options{})
	if err != nil {
		return err
	}
	defer s.Close()
	f, err := s.Function([]string{"x"}, []string{"y:0"})
	if err != nil {
		return err
	}
	words, err := savedmodel.NewStringTensor([][]byte{[]byte("a"), []byte("b")}, 2)
	if err != nil {
		return err
	}
	defer words.Close()
	results, err := f.Run(ctx, words)
	if err != nil {
		return err
	}
	defer results[0].Close()
	out, err := results[0].Strings()
	if err != nil {
		return err
	}
	fmt.Printf("%q\n", out)
	if savedmodel.LibraryVersion() == "" {
		return savedmodel.ErrNoRuntime
	}
	return nil
}

// The example above makes each call that the package comment names as one of this package.
func TestBindingTable(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	row := regexp.MustCompile(`^//\t.{39}  (.*)$`)
	call := regexp.MustCompile(`\b[A-Z]\w*(?:\[float32\])?\(`)
	example := read("example_binding_test.go")
	found := 0
	_, table, _ := strings.Cut(read("doc.go"), "# For those who know")
	for line := range strings.Lines(table) {
		m := row.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		for _, name := range call.FindAllString(m[1], -1) {
			if found++; !strings.Contains(example, "."+name) {
				t.Errorf("the example does not call %s…)", name)
			}
		}
	}
	if found < 10 {
		t.Errorf("found %d calls in the table of doc.go", found)
	}
}
