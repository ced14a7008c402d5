package savedmodel

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

// Options say how a model is loaded and run. The zero value leaves everything to TensorFlow. An
// operation that the model places on a missing device runs on the processor.
type Options struct {
	// Tags choose the meta graph, which must have exactly these tags. An empty list that is not
	// nil chooses the graph without tags. Nil chooses the graph with the tag "serve" alone, or
	// else the only graph that is not for training; several such graphs are an error.
	Tags []string

	// Optimize lets Load build a faster and smaller graph where that is safe; see Load. It has no
	// effect on NewSession.
	Optimize bool
	// Signature is the only one that the optimized graph has; empty: it has all of them. A graph
	// for fewer signatures may take less memory.
	Signature string
	// Kernels says whose convolutions an optimized graph calls.
	Kernels Kernels
	// Precision says what the convolutions of an optimized graph compute in, if the processor and
	// the library support it.
	Precision Precision
	// Ranges are needed for PrecisionInt8.
	Ranges Ranges

	// IntraOpThreads bounds the threads that work on one operation. InterOpThreads bounds the
	// operations that run at the same time. Zero means one for each processor.
	IntraOpThreads, InterOpThreads int
	// OwnThreads gives the session its own thread pools. Otherwise all sessions share pools, whose
	// size the first session of the process sets.
	OwnThreads bool

	// The GPU settings have no effect on a library without GPU support. AllowGrowth takes the
	// card's memory as needed; the default takes nearly all of it at once. MemoryFraction, from 0
	// to 1, bounds that memory; 0 means no bound. VisibleDevices lists the cards to use, such as
	// "0,2".
	AllowGrowth    bool
	MemoryFraction float64
	VisibleDevices string
}

// config returns the serialized ConfigProto. It returns an error for values that would make
// TensorFlow end the process.
func (o Options) config() ([]byte, error) {
	config, err := o.message()
	if err != nil {
		return nil, err
	}
	return proto.Marshal(config)
}

func (o Options) message() (*tfpb.ConfigProto, error) {
	for _, threads := range []struct {
		name string
		n    int
	}{{"IntraOpThreads", o.IntraOpThreads}, {"InterOpThreads", o.InterOpThreads}} {
		if threads.n < 0 || threads.n > math.MaxInt32 {
			return nil, fmt.Errorf("options: %s cannot be %d", threads.name, threads.n)
		}
	}
	if !(o.MemoryFraction >= 0 && o.MemoryFraction <= 1) {
		return nil, fmt.Errorf("options: MemoryFraction is %v, not from 0 to 1", o.MemoryFraction)
	}
	return &tfpb.ConfigProto{
		IntraOpParallelismThreads: int32(o.IntraOpThreads),
		InterOpParallelismThreads: int32(o.InterOpThreads),
		UsePerSessionThreads:      o.OwnThreads,
		AllowSoftPlacement:        true,
		// Idle threads that spin take the processor from threads that have work, and do not
		// make large models faster.
		Experimental: &tfpb.ConfigProto_Experimental{DisableThreadSpinning: true},
		GpuOptions: &tfpb.GPUOptions{
			AllowGrowth:                 o.AllowGrowth,
			PerProcessGpuMemoryFraction: o.MemoryFraction,
			VisibleDeviceList:           o.VisibleDevices,
		},
	}, nil
}
