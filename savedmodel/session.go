package savedmodel

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/internal/ctf"
	"inceptor/savedmodel/tfpb"
)

// Error is an error that TensorFlow returned, with its status code.
type Error = ctf.Error

// Code is TensorFlow's status code.
type Code = ctf.Code

// The codes that callers branch on.
const (
	InvalidArgument   = ctf.InvalidArgument
	NotFound          = ctf.NotFound
	ResourceExhausted = ctf.ResourceExhausted
)

// ErrClosed says that a session was used after Close.
var ErrClosed = errors.New("session is closed")

// A Session is a graph that is ready to run. Its methods are safe for concurrent use.
type Session struct {
	// Set once.
	graph   ctf.Graph
	session ctf.Session

	// Each run holds running for reading, so that Close waits for all runs.
	running sync.RWMutex
	closed  bool // guarded by running
}

// NewSession returns a session for a graph without variables. It opens the library if no library
// is open.
func NewSession(def *tfpb.GraphDef, o Options) (*Session, error) {
	if err := OpenLibrary(""); err != nil {
		return nil, err
	}
	config, err := o.config()
	if err != nil {
		return nil, err
	}
	return openSession(def, config)
}

// openSession opens a session with a serialized ConfigProto.
func openSession(def *tfpb.GraphDef, config []byte) (*Session, error) {
	b, err := proto.Marshal(def)
	if err != nil {
		return nil, err
	}
	graph := ctf.NewGraph()
	if err := graph.ImportGraphDef(b); err != nil {
		graph.Delete()
		return nil, fmt.Errorf("import graph: %w", err)
	}
	session, err := ctf.NewSession(graph, config)
	if err != nil {
		graph.Delete()
		return nil, fmt.Errorf("new session: %w", err)
	}
	return &Session{graph: graph, session: session}, nil
}

// Close waits for the current runs and then returns the session's memory to the system. Later runs
// return ErrClosed. Closing again does nothing.
func (s *Session) Close() error {
	s.running.Lock()
	defer s.running.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := errors.Join(s.session.Close(), s.session.Delete())
	s.graph.Delete()
	ctf.TrimMemory()
	return err
}

// A Function runs a part of a session's graph, from fixed feeds to fixed fetches. Session.Function
// makes one. It never changes and is safe for concurrent use.
type Function struct {
	session        *Session
	feeds, fetches []ctf.Output
	feedNames      []string // names of the feeds, for errors
	checks         int      // of the fetches, the last: booleans, of which each must be true
}

// Function returns a function that feeds and fetches the named tensors. A name is
// "operation:index"; without an index it means output 0.
func (s *Session) Function(feeds, fetches []string) (*Function, error) {
	f := &Function{session: s, feedNames: slices.Clone(feeds)}
	s.running.RLock()
	defer s.running.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
	for _, name := range feeds {
		o, err := s.output(name)
		if err != nil {
			return nil, fmt.Errorf("feed: %w", err)
		}
		f.feeds = append(f.feeds, o)
	}
	for _, name := range fetches {
		o, err := s.output(name)
		if err != nil {
			return nil, fmt.Errorf("fetch: %w", err)
		}
		f.fetches = append(f.fetches, o)
	}
	return f, nil
}

func (s *Session) output(name string) (ctf.Output, error) {
	op, index, found := strings.Cut(name, ":")
	i := 0
	if found {
		var err error
		if i, err = strconv.Atoi(index); err != nil {
			return ctf.Output{}, fmt.Errorf("tensor name %q: index is not a number", name)
		}
	}
	o, ok := s.graph.Output(op, i)
	if !ok {
		return ctf.Output{}, fmt.Errorf("graph has no tensor %q", name)
	}
	return o, nil
}

// maxStack is how many feeds or fetches a run can have without allocating its argument arrays.
const maxStack = 4

// Run returns the fetched tensors for these inputs, both in the order given to Session.Function.
// The caller closes the results and still owns the inputs. A result may share its memory with an
// input or with a constant of the graph, so do not write to it. Run checks ctx only before it
// begins, because TensorFlow cannot be interrupted.
//
// TensorFlow's errors have the type *Error. ErrClosed says that the session is closed. ErrNotFinite
// says that the model computes NaN or infinity from these inputs.
func (f *Function) Run(ctx context.Context, inputs ...*Tensor) ([]*Tensor, error) {
	if len(inputs) != len(f.feeds) {
		return nil, fmt.Errorf("run: %d tensors for the feeds %v", len(inputs), f.feedNames)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var valueArray, resultArray [maxStack]ctf.Tensor
	values := valueArray[:0]
	for i, t := range inputs {
		if t == nil {
			return nil, fmt.Errorf("run: feed %s: no tensor", f.feedNames[i])
		}
		if t.freed {
			return nil, fmt.Errorf("run: feed %s: %w", f.feedNames[i], errTensorClosed)
		}
		values = append(values, t.c)
	}
	results := resultArray[:]
	if len(f.fetches) > maxStack {
		results = make([]ctf.Tensor, len(f.fetches))
	}
	results = results[:len(f.fetches)]

	err := f.session.run(f.feeds, values, f.fetches, results)
	runtime.KeepAlive(inputs)
	if err != nil {
		return nil, err
	}
	outputs := make([]*Tensor, len(results)-f.checks)
	finite := true
	for i, c := range results {
		if i < len(outputs) {
			outputs[i] = wrapTensor(c)
			continue
		}
		finite = finite && c.Data()[0] != 0
		c.Delete()
	}
	if !finite {
		for _, t := range outputs {
			t.Close()
		}
		return nil, ErrNotFinite
	}
	return outputs, nil
}

func (s *Session) run(feeds []ctf.Output, values []ctf.Tensor, fetches []ctf.Output, results []ctf.Tensor) error {
	s.running.RLock()
	defer s.running.RUnlock()
	if s.closed {
		return ErrClosed
	}
	return s.session.Run(feeds, values, fetches, results)
}
