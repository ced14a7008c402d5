package savedmodel

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"inceptor/savedmodel/tfpb"
)

// The types have the numbers of the protocol buffer enum.
func TestDataTypeNumbers(t *testing.T) {
	renamed := map[string]string{"float": "float32", "double": "float64", "half": "float16"}
	for number, name := range tfpb.DataType_name {
		want := strings.ToLower(strings.TrimPrefix(name, "DT_"))
		plain, ref := strings.CutSuffix(want, "_ref")
		if r, ok := renamed[plain]; ok {
			plain = r
		}
		want = plain
		if ref {
			want += "_ref"
		}
		dtype := DataType(number)
		if got := dtype.String(); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
		if ref && dtype.Size() != 0 {
			t.Errorf("%s has size %d", name, dtype.Size())
		}
		text, err := dtype.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back DataType
		if err := back.UnmarshalText(text); err != nil || back != dtype {
			t.Errorf("%s comes back from %q as %v, %v", name, text, back, err)
		}
	}
	for _, strange := range []DataType{-1, 34, 99, 100, 134, math.MaxInt32, math.MinInt32} {
		if got := strange.String(); !strings.HasPrefix(got, "dtype(") {
			t.Errorf("DataType(%d) is %q", int32(strange), got)
		}
		if got := strange.Size(); got != 0 {
			t.Errorf("DataType(%d) has size %d", int32(strange), got)
		}
	}
	if err := new(DataType).UnmarshalText([]byte("float33")); err == nil {
		t.Error("float33 is a data type")
	}
}

func TestShape(t *testing.T) {
	tests := []struct {
		name     string
		shape    Shape
		text     string
		json     string
		elements int64
		known    bool
	}{
		{"unknown rank", nil, "?", "null", 0, false},
		{"scalar", Shape{}, "[]", "[]", 1, true},
		{"vector", Shape{3}, "[3]", "[3]", 3, true},
		{"batch", Shape{-1, 299, 299, 3}, "[N, 299, 299, 3]", "[-1,299,299,3]", 0, false},
		{"empty", Shape{math.MaxInt64, 0, math.MaxInt64}, "[9223372036854775807, 0, 9223372036854775807]",
			"[9223372036854775807,0,9223372036854775807]", 0, true},
		{"too large", Shape{math.MaxInt64, 2}, "[9223372036854775807, 2]", "[9223372036854775807,2]", 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.shape.String(); got != test.text {
				t.Errorf("String() = %q, want %q", got, test.text)
			}
			if got, _ := json.Marshal(test.shape); string(got) != test.json {
				t.Errorf("JSON is %s, want %s", got, test.json)
			}
			if n, ok := test.shape.Elements(); ok != test.known || ok && n != test.elements {
				t.Errorf("Elements() = %d, %t, want %d, %t", n, ok, test.elements, test.known)
			}
		})
	}
}

// TensorInfo.String describes an input or output for a person.
func TestTensorInfoWords(t *testing.T) {
	for want, info := range map[string]TensorInfo{
		"float32 []":               {DType: Float32, Shape: Shape{}},
		"float32 [N]":              {DType: Float32, Shape: Shape{-1}},
		"uint8 [N, ?, 299, 3]":     {DType: UInt8, Shape: Shape{-1, -1, 299, 3}},
		"string [1]":               {DType: String, Shape: Shape{1}},
		"float16 of unknown shape": {DType: Float16},
		"sparse int64 [N, ?]":      {DType: Int64, Shape: Shape{-1, -1}, Encoding: "coo_sparse"},

		"a composite tensor, such as a ragged one": {Encoding: "composite"},
	} {
		if got := info.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSignaturesOf(t *testing.T) {
	name := func(n string) *tfpb.TensorInfo {
		return &tfpb.TensorInfo{Encoding: &tfpb.TensorInfo_Name{Name: n}}
	}
	graph := &tfpb.MetaGraphDef{SignatureDef: map[string]*tfpb.SignatureDef{
		"__saved_model_init_op":  {Outputs: map[string]*tfpb.TensorInfo{"__saved_model_init_op": name("NoOp")}},
		"__saved_model_train_op": {},
		"empty":                  nil,
		"sparse": {
			MethodName: "m",
			Inputs: map[string]*tfpb.TensorInfo{
				"dense": {
					Encoding:    &tfpb.TensorInfo_Name{Name: "d:0"},
					Dtype:       tfpb.DataType_DT_UINT8,
					TensorShape: &tfpb.TensorShapeProto{Dim: []*tfpb.TensorShapeProto_Dim{{Size: -1}, nil}},
				},
				"sparse": {Encoding: &tfpb.TensorInfo_CooSparse_{}},
				"ragged": {Encoding: &tfpb.TensorInfo_CompositeTensor_{}, TensorShape: &tfpb.TensorShapeProto{UnknownRank: true}},
				"none":   nil,
			},
		},
	}}
	want := map[string]Signature{
		"empty": {Inputs: map[string]TensorInfo{}, Outputs: map[string]TensorInfo{}},
		"sparse": {
			Method: "m",
			Inputs: map[string]TensorInfo{
				"dense":  {Name: "d:0", DType: UInt8, Shape: Shape{-1, 0}},
				"sparse": {Encoding: "coo_sparse"},
				"ragged": {Encoding: "composite"},
				"none":   {},
			},
			Outputs: map[string]TensorInfo{},
		},
	}
	if diff := cmp.Diff(want, signaturesOf(graph)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := signaturesOf(nil); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}
