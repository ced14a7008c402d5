//go:build !cgo || (!linux && !darwin)

package ctf

// Without cgo, Open always fails. The other functions only let callers compile; they are never
// called.

// Open returns ErrNoRuntime.
func Open(string) error { return ErrNoRuntime }

func Version() string      { return "" }
func TrimMemory()          {}
func CountCrashes(*uint32) {}
func AllOps() []byte       { return nil }

func RegisteredKernels(string) ([]byte, error) { return nil, ErrNoRuntime }

type Tensor struct{}

const StringSize = 24

func AllocateTensor(int32, []int64, int) (Tensor, error) { return Tensor{}, ErrNoRuntime }
func (Tensor) Delete()                                   {}
func (Tensor) Type() int32                               { return 0 }
func (Tensor) NumDims() int                              { return 0 }
func (Tensor) Dim(int) int64                             { return 0 }
func (Tensor) Data() []byte                              { return nil }
func (Tensor) StringInit(int)                            {}
func (Tensor) StringCopy(int, []byte)                    {}
func (Tensor) String(int) []byte                         { return nil }

type Graph struct{}

func NewGraph() Graph                           { return Graph{} }
func (Graph) Delete()                           {}
func (Graph) ImportGraphDef([]byte) error       { return ErrNoRuntime }
func (Graph) Output(string, int) (Output, bool) { return Output{}, false }
func (Graph) Shape(Output) ([]int64, error)     { return nil, ErrNoRuntime }

type Output struct{}

type Session struct{}

func NewSession(Graph, []byte) (Session, error) { return Session{}, ErrNoRuntime }
func LoadSessionFromSavedModel([]byte, string, []string, Graph) (Session, []byte, error) {
	return Session{}, nil, ErrNoRuntime
}
func (Session) Run([]Output, []Tensor, []Output, []Tensor) error { return ErrNoRuntime }
func (Session) DeviceTypes() ([]string, error)                   { return nil, ErrNoRuntime }
func (Session) Close() error                                     { return ErrNoRuntime }
func (Session) Delete() error                                    { return ErrNoRuntime }
