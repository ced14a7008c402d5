//go:build cgo && (linux || darwin)

package ctf

// #cgo LDFLAGS: -ldl
// #cgo noescape TF_SessionRun
// #cgo nocallback TF_SessionRun
// #cgo noescape TF_AllocateTensor
// #cgo nocallback TF_AllocateTensor
// #cgo noescape TF_StringCopy
// #cgo nocallback TF_StringCopy
// #include <stdlib.h>
// #include "api.h"
import "C"

import (
	"errors"
	"runtime"
	"slices"
	"strconv"
	"unsafe"
)

// Open opens the library at path, a file or a name for the system's loader, and resolves every
// function of the table. Call no other function of this package before Open has returned nil, and
// do not call it again after that. A failed Open changes nothing.
func Open(path string) error {
	cpath := C.CString(path)
	defer C.free(unsafe.Pointer(cpath))
	if msg := C.ctf_open(cpath); msg != nil {
		defer C.free(unsafe.Pointer(msg))
		return errors.New(C.GoString(msg))
	}
	return nil
}

// Version is TF_Version.
func Version() string { return C.GoString(C.TF_Version()) }

// TrimMemory is glibc's malloc_trim: it returns free heap pages of the C allocator to the system.
// With another C library it does nothing.
func TrimMemory() { C.ctf_trim() }

// AllOps is TF_GetAllOpList: a serialized OpList of the operations that the
// library knows.
func AllOps() []byte { return copyBuffer(C.TF_GetAllOpList()) }

// RegisteredKernels is TF_GetRegisteredKernelsForOp: a serialized KernelList
// of the kernels that the library has for an operation.
func RegisteredKernels(op string) ([]byte, error) {
	cop := C.CString(op)
	defer C.free(unsafe.Pointer(cop))
	s := C.TF_NewStatus()
	b := C.TF_GetRegisteredKernelsForOp(cop, s)
	if err := statusError(s); err != nil {
		return nil, err
	}
	return copyBuffer(b), nil
}

// copyBuffer copies a buffer and deletes it.
func copyBuffer(b *C.TF_Buffer) []byte {
	defer C.TF_DeleteBuffer(b)
	return slices.Clone(unsafe.Slice((*byte)(b.data), int(b.length)))
}

// CountCrashes makes a signal handler add one at count before a signal for a fault ends the
// process. The count must not be Go's memory and must stay mapped for ever, because a handler may
// write there at any time. Nil stops the counting. A fault that Go turns into a panic is counted
// only while its handler runs.
func CountCrashes(count *uint32) { C.ctf_count_crashes((*C.uint32_t)(count)) }

// statusError turns a status into an error and deletes it.
func statusError(s *C.TF_Status) error {
	defer C.TF_DeleteStatus(s)
	code := Code(C.TF_GetCode(s))
	if code == OK {
		return nil
	}
	return &Error{Code: code, Message: C.GoString(C.TF_Message(s))}
}

// A Tensor is a TF_Tensor. Delete frees it.
type Tensor struct{ c *C.TF_Tensor }

// AllocateTensor is TF_AllocateTensor: the memory is aligned and not cleared.
// A tensor of strings must have each element initialised by StringInit before
// it is used or deleted.
func AllocateTensor(dtype int32, dims []int64, size int) (Tensor, error) {
	t := C.TF_AllocateTensor(C.int(dtype), (*C.int64_t)(unsafe.SliceData(dims)), C.int(len(dims)), C.size_t(size))
	// Without memory TensorFlow still returns a tensor, with a null pointer.
	if t != nil && (size == 0 || C.TF_TensorData(t) != nil) {
		return Tensor{t}, nil
	}
	if t != nil {
		C.TF_DeleteTensor(t)
	}
	return Tensor{}, &Error{Code: ResourceExhausted, Message: "no memory for a tensor of " + strconv.Itoa(size) + " bytes"}
}

// Delete is TF_DeleteTensor; a tensor of strings frees their payload.
func (t Tensor) Delete() { C.TF_DeleteTensor(t.c) }

// Type is TF_TensorType.
func (t Tensor) Type() int32 { return int32(C.TF_TensorType(t.c)) }

// NumDims is TF_NumDims.
func (t Tensor) NumDims() int { return int(C.TF_NumDims(t.c)) }

// Dim is TF_Dim.
func (t Tensor) Dim(i int) int64 { return int64(C.TF_Dim(t.c, C.int(i))) }

// Data is TF_TensorData with TF_TensorByteSize: a slice of t's memory, valid until t is deleted.
func (t Tensor) Data() []byte {
	n := C.TF_TensorByteSize(t.c)
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(C.TF_TensorData(t.c)), int(n))
}

// StringSize is the size in bytes of one element of a string tensor.
const StringSize = C.sizeof_TF_TString

func (t Tensor) element(i int) *C.TF_TString {
	return (*C.TF_TString)(unsafe.Add(C.TF_TensorData(t.c), i*StringSize))
}

// StringInit is TF_StringInit on element i.
func (t Tensor) StringInit(i int) { C.TF_StringInit(t.element(i)) }

// StringCopy is TF_StringCopy: it copies s into element i.
func (t Tensor) StringCopy(i int, s []byte) {
	C.TF_StringCopy(t.element(i), (*C.char)(unsafe.Pointer(unsafe.SliceData(s))), C.size_t(len(s)))
}

// String returns a slice of element i's memory, valid until t is deleted.
func (t Tensor) String(i int) []byte {
	e := t.element(i)
	return unsafe.Slice((*byte)(unsafe.Pointer(C.TF_StringGetDataPointer(e))), int(C.TF_StringGetSize(e)))
}

// A Graph is a TF_Graph. Delete frees it, after its sessions.
type Graph struct{ c *C.TF_Graph }

// NewGraph is TF_NewGraph.
func NewGraph() Graph { return Graph{C.TF_NewGraph()} }

// Delete is TF_DeleteGraph.
func (g Graph) Delete() { C.TF_DeleteGraph(g.c) }

// ImportGraphDef is TF_GraphImportGraphDef with default options; def is a
// serialized GraphDef.
func (g Graph) ImportGraphDef(def []byte) error {
	// TensorFlow reads def only during the call, so it need not be copied.
	var pinner runtime.Pinner
	defer pinner.Unpin()
	buf := &C.TF_Buffer{length: C.size_t(len(def))}
	if len(def) > 0 {
		pinner.Pin(&def[0])
		buf.data = unsafe.Pointer(&def[0])
	}
	opts := C.TF_NewImportGraphDefOptions()
	defer C.TF_DeleteImportGraphDefOptions(opts)
	s := C.TF_NewStatus()
	C.TF_GraphImportGraphDef(g.c, buf, opts, s)
	return statusError(s)
}

// An Output is a TF_Output: one result of an operation of a graph.
type Output struct{ c C.TF_Output }

// Output returns output index of the operation with this name. It returns false if the graph has no
// such output.
func (g Graph) Output(name string, index int) (Output, bool) {
	cname := C.CString(name)
	defer C.free(unsafe.Pointer(cname))
	op := C.TF_GraphOperationByName(g.c, cname)
	if op == nil || index < 0 || index >= int(C.TF_OperationNumOutputs(op)) {
		return Output{}, false
	}
	return Output{C.TF_Output{oper: op, index: C.int(index)}}, true
}

// Shape is TF_GraphGetTensorNumDims with TF_GraphGetTensorShape. It returns the shape that g has
// inferred for o, with -1 for an unknown dimension, or nil for an unknown rank.
func (g Graph) Shape(o Output) ([]int64, error) {
	s := C.TF_NewStatus()
	rank := C.TF_GraphGetTensorNumDims(g.c, o.c, s)
	if err := statusError(s); err != nil || rank < 0 {
		return nil, err
	}
	dims := make([]int64, rank)
	if rank == 0 {
		return dims, nil
	}
	s = C.TF_NewStatus()
	C.TF_GraphGetTensorShape(g.c, o.c, (*C.int64_t)(unsafe.SliceData(dims)), rank, s)
	return dims, statusError(s)
}

// A Session is a TF_Session. Close ends it, Delete frees it.
type Session struct{ c *C.TF_Session }

// sessionOptions makes TF_SessionOptions of a serialized ConfigProto.
func sessionOptions(config []byte) (*C.TF_SessionOptions, error) {
	opts := C.TF_NewSessionOptions()
	if len(config) == 0 {
		return opts, nil
	}
	s := C.TF_NewStatus()
	C.TF_SetConfig(opts, unsafe.Pointer(unsafe.SliceData(config)), C.size_t(len(config)), s)
	if err := statusError(s); err != nil {
		C.TF_DeleteSessionOptions(opts)
		return nil, err
	}
	return opts, nil
}

// NewSession is TF_NewSession; config is a serialized ConfigProto.
func NewSession(g Graph, config []byte) (Session, error) {
	opts, err := sessionOptions(config)
	if err != nil {
		return Session{}, err
	}
	defer C.TF_DeleteSessionOptions(opts)
	s := C.TF_NewStatus()
	session := C.TF_NewSession(g.c, opts, s)
	if err := statusError(s); err != nil {
		return Session{}, err
	}
	return Session{session}, nil
}

// LoadSessionFromSavedModel is TF_LoadSessionFromSavedModel: it loads the
// meta graph with exactly these tags into g, which must be new, and returns
// it serialized.
func LoadSessionFromSavedModel(config []byte, dir string, tags []string, g Graph) (Session, []byte, error) {
	opts, err := sessionOptions(config)
	if err != nil {
		return Session{}, nil, err
	}
	defer C.TF_DeleteSessionOptions(opts)
	cdir := C.CString(dir)
	defer C.free(unsafe.Pointer(cdir))
	ctags := make([]*C.char, len(tags))
	for i, tag := range tags {
		ctags[i] = C.CString(tag)
		defer C.free(unsafe.Pointer(ctags[i]))
	}
	meta := C.TF_NewBuffer()
	defer C.TF_DeleteBuffer(meta)

	s := C.TF_NewStatus()
	session := C.TF_LoadSessionFromSavedModel(opts, nil, cdir, unsafe.SliceData(ctags), C.int(len(tags)), g.c, meta, s)
	if err := statusError(s); err != nil {
		return Session{}, nil, err
	}
	return Session{session}, slices.Clone(unsafe.Slice((*byte)(meta.data), int(meta.length))), nil
}

// Run is TF_SessionRun. It feeds values[i] to inputs[i] and stores the value of outputs[i] in
// results[i], which the caller must delete. The slice results must be as long as outputs and all
// zero. After an error there is nothing to delete. Safe for concurrent use.
func (x Session) Run(inputs []Output, values []Tensor, outputs []Output, results []Tensor) error {
	s := C.TF_NewStatus()
	// Output and Tensor are structs of one C field each, so their slices are C arrays.
	C.TF_SessionRun(x.c, nil,
		(*C.TF_Output)(unsafe.Pointer(unsafe.SliceData(inputs))),
		(**C.TF_Tensor)(unsafe.Pointer(unsafe.SliceData(values))), C.int(len(inputs)),
		(*C.TF_Output)(unsafe.Pointer(unsafe.SliceData(outputs))),
		(**C.TF_Tensor)(unsafe.Pointer(unsafe.SliceData(results))), C.int(len(outputs)),
		nil, 0, nil, s)
	err := statusError(s)
	if err != nil {
		for _, r := range results {
			if r.c != nil {
				r.Delete()
			}
		}
	}
	return err
}

// DeviceTypes returns the types, such as "CPU", of the devices that TF_SessionListDevices lists.
func (x Session) DeviceTypes() ([]string, error) {
	s := C.TF_NewStatus()
	list := C.TF_SessionListDevices(x.c, s)
	if err := statusError(s); err != nil {
		return nil, err
	}
	defer C.TF_DeleteDeviceList(list)
	types := make([]string, C.TF_DeviceListCount(list))
	for i := range types {
		s := C.TF_NewStatus()
		name := C.TF_DeviceListType(list, C.int(i), s)
		if err := statusError(s); err != nil {
			return nil, err
		}
		types[i] = C.GoString(name)
	}
	return types, nil
}

// Close is TF_CloseSession. There must be no run in progress.
func (x Session) Close() error {
	s := C.TF_NewStatus()
	C.TF_CloseSession(x.c, s)
	return statusError(s)
}

// Delete is TF_DeleteSession.
func (x Session) Delete() error {
	s := C.TF_NewStatus()
	C.TF_DeleteSession(x.c, s)
	return statusError(s)
}
