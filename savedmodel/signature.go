package savedmodel

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"inceptor/savedmodel/tfpb"
)

// Keys of signature_def that name an operation to run at load, not a signature
// (tensorflow/cc/saved_model/constants.h).
const (
	initOpKey  = "__saved_model_init_op"
	trainOpKey = "__saved_model_train_op"
)

// callable says whether a key of signature_def names a signature.
func callable(key string) bool { return key != initOpKey && key != trainOpKey }

// A Signature is one way to call a model: named inputs to named outputs.
type Signature struct {
	Method  string                `json:"method"` // "tensorflow/serving/predict", mostly
	Inputs  map[string]TensorInfo `json:"inputs"`
	Outputs map[string]TensorInfo `json:"outputs"`
}

// A TensorInfo describes an input or output of a signature.
type TensorInfo struct {
	Name  string   `json:"name"` // the tensor in the graph, "op:0"; empty if Encoding is not
	DType DataType `json:"dtype"`
	Shape Shape    `json:"shape"`
	// Encoding is empty for one dense tensor. Several tensors have "coo_sparse" or "composite".
	Encoding string `json:"encoding,omitempty"`
}

// String returns dtype and shape for a person: "float32 [N, 299, 299, 3]", "bool []", "float32 of
// unknown shape", "sparse int64 [N, ?]". It does not list the parts of a composite tensor.
func (i TensorInfo) String() string {
	s := fmt.Sprintf("%v %v", i.DType, i.Shape)
	if i.Shape == nil {
		s = fmt.Sprintf("%v of unknown shape", i.DType)
	}
	switch i.Encoding {
	case "":
		return s
	case "coo_sparse":
		return "sparse " + s
	}
	return "a composite tensor, such as a ragged one"
}

// signaturesOf returns the signatures of a graph.
func signaturesOf(mg *tfpb.MetaGraphDef) map[string]Signature {
	return SignaturesOf(mg.GetSignatureDef())
}

// SignaturesOf returns the signatures in a signature_def map, of a graph or of a model server's
// metadata. It leaves out the entries that only name an operation to run at load.
func SignaturesOf(defs map[string]*tfpb.SignatureDef) map[string]Signature {
	sigs := make(map[string]Signature, len(defs))
	for key, def := range defs {
		if !callable(key) {
			continue
		}
		sigs[key] = Signature{
			Method:  def.GetMethodName(),
			Inputs:  tensorInfos(def.GetInputs()),
			Outputs: tensorInfos(def.GetOutputs()),
		}
	}
	return sigs
}

func tensorInfos(defs map[string]*tfpb.TensorInfo) map[string]TensorInfo {
	infos := make(map[string]TensorInfo, len(defs))
	for key, def := range defs {
		info := TensorInfo{
			Name:  def.GetName(),
			DType: DataType(def.GetDtype()),
			Shape: shapeOf(def.GetTensorShape()),
		}
		switch def.GetEncoding().(type) {
		case *tfpb.TensorInfo_CooSparse_:
			info.Encoding = "coo_sparse"
		case *tfpb.TensorInfo_CompositeTensor_:
			info.Encoding = "composite"
		}
		infos[key] = info
	}
	return infos
}

// A Shape is a tensor's size in each dimension, outermost first. -1 is an unknown dimension. A nil
// Shape means an unknown rank, an empty one a scalar.
type Shape []int64

// shapeOf converts a message. It takes a missing shape for an unknown one, as TensorFlow does in a
// signature.
func shapeOf(p *tfpb.TensorShapeProto) Shape {
	if p == nil || p.GetUnknownRank() {
		return nil
	}
	s := make(Shape, len(p.GetDim()))
	for i, d := range p.GetDim() {
		s[i] = max(d.GetSize(), -1)
	}
	return s
}

// String returns the shape as "[N, 299, 299, 3]". N is an unknown first dimension, usually the
// batch; "?" is any other unknown dimension, or an unknown rank.
func (s Shape) String() string {
	if s == nil {
		return "?"
	}
	dims := make([]string, len(s))
	for i, d := range s {
		switch {
		case d >= 0:
			dims[i] = strconv.FormatInt(d, 10)
		case i == 0:
			dims[i] = "N"
		default:
			dims[i] = "?"
		}
	}
	return "[" + strings.Join(dims, ", ") + "]"
}

// Elements returns the number of elements, which is 1 for a scalar. It returns false if a dimension
// or the rank is unknown, or if the number overflows.
func (s Shape) Elements() (n int64, ok bool) {
	if s == nil || slices.ContainsFunc(s, func(d int64) bool { return d < 0 }) {
		return 0, false
	}
	if slices.Contains(s, 0) {
		return 0, true
	}
	n = 1
	for _, d := range s {
		if n > math.MaxInt64/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// A DataType is the type of a tensor's elements, numbered as in TensorFlow
// (tensorflow/core/framework/types.proto). The reference types of TensorFlow 1's variables are the
// plain types plus 100.
type DataType int32

// The data types, except for the reference types.
const (
	Invalid           DataType = 0
	Float32           DataType = 1
	Float64           DataType = 2
	Int32             DataType = 3
	UInt8             DataType = 4
	Int16             DataType = 5
	Int8              DataType = 6
	String            DataType = 7
	Complex64         DataType = 8
	Int64             DataType = 9
	Bool              DataType = 10
	QInt8             DataType = 11
	QUInt8            DataType = 12
	QInt32            DataType = 13
	BFloat16          DataType = 14
	QInt16            DataType = 15
	QUInt16           DataType = 16
	UInt16            DataType = 17
	Complex128        DataType = 18
	Float16           DataType = 19
	Resource          DataType = 20
	Variant           DataType = 21
	UInt32            DataType = 22
	UInt64            DataType = 23
	Float8E5M2        DataType = 24
	Float8E4M3FN      DataType = 25
	Float8E4M3FNUZ    DataType = 26
	Float8E4M3B11FNUZ DataType = 27
	Float8E5M2FNUZ    DataType = 28
	Int4              DataType = 29
	UInt4             DataType = 30
	Int2              DataType = 31
	UInt2             DataType = 32
	Float4E2M1FN      DataType = 33
)

// refOffset is what a reference type adds to the plain type.
const refOffset = 100

// dataTypes holds each type's name in Python TensorFlow and the bytes of an element in memory. The
// size is 0 if it is not fixed. Types of less than 8 bits take a byte, as TensorFlow stores them.
var dataTypes = [...]struct {
	name string
	size int
}{
	Invalid:           {"invalid", 0},
	Float32:           {"float32", 4},
	Float64:           {"float64", 8},
	Int32:             {"int32", 4},
	UInt8:             {"uint8", 1},
	Int16:             {"int16", 2},
	Int8:              {"int8", 1},
	String:            {"string", 0},
	Complex64:         {"complex64", 8},
	Int64:             {"int64", 8},
	Bool:              {"bool", 1},
	QInt8:             {"qint8", 1},
	QUInt8:            {"quint8", 1},
	QInt32:            {"qint32", 4},
	BFloat16:          {"bfloat16", 2},
	QInt16:            {"qint16", 2},
	QUInt16:           {"quint16", 2},
	UInt16:            {"uint16", 2},
	Complex128:        {"complex128", 16},
	Float16:           {"float16", 2},
	Resource:          {"resource", 0},
	Variant:           {"variant", 0},
	UInt32:            {"uint32", 4},
	UInt64:            {"uint64", 8},
	Float8E5M2:        {"float8_e5m2", 1},
	Float8E4M3FN:      {"float8_e4m3fn", 1},
	Float8E4M3FNUZ:    {"float8_e4m3fnuz", 1},
	Float8E4M3B11FNUZ: {"float8_e4m3b11fnuz", 1},
	Float8E5M2FNUZ:    {"float8_e5m2fnuz", 1},
	Int4:              {"int4", 1},
	UInt4:             {"uint4", 1},
	Int2:              {"int2", 1},
	UInt2:             {"uint2", 1},
	Float4E2M1FN:      {"float4_e2m1fn", 1},
}

// String returns the type's name in Python TensorFlow, such as "float32", "string" or
// "float32_ref". An unknown number gives "dtype(n)".
func (t DataType) String() string {
	plain, suffix := t, ""
	if t > refOffset {
		plain, suffix = t-refOffset, "_ref"
	}
	if plain < 0 || int(plain) >= len(dataTypes) {
		return fmt.Sprintf("dtype(%d)", int32(t))
	}
	return dataTypes[plain].name + suffix
}

// Size returns the bytes that one element takes. It is 0 if the size is not fixed: for strings,
// resources, variants, references and unknown types.
func (t DataType) Size() int {
	if t < 0 || int(t) >= len(dataTypes) {
		return 0
	}
	return dataTypes[t].size
}

// MarshalText returns the same name as String.
func (t DataType) MarshalText() ([]byte, error) {
	return []byte(t.String()), nil
}

// UnmarshalText reads a name that String returns.
func (t *DataType) UnmarshalText(text []byte) error {
	name, ref := strings.CutSuffix(string(text), "_ref")
	for i, d := range dataTypes {
		if d.name == name {
			*t = DataType(i)
			if ref {
				*t += refOffset
			}
			return nil
		}
	}
	return fmt.Errorf("unknown data type %q", text)
}
