package savedmodel

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

// Options say how a model is loaded and run. The zero value leaves everything
// to TensorFlow. An operation that a model placed on a device that is not
// there runs on the processor.
type Options struct {
	// Tags name the meta graph: it must have exactly these. Empty, but not nil: the one without
	// tags. nil: the one with the tag "serve" alone, else the only one that is not for training;
	// it is an error if there are several.
	Tags []string

	// Optimize lets Load make a faster and smaller graph of the model where
	// it can do so safely; see there. It does nothing for NewSession.
	Optimize bool
	// Kernels says whose convolutions an optimized graph calls.
	Kernels Kernels
	// Precision says in what those compute, where it is to be had.
	Precision Precision

	// IntraOpThreads bounds the threads that work on one operation,
	// InterOpThreads the operations of a graph that run side by side.
	// Zero: one for each processor.
	IntraOpThreads, InterOpThreads int
	// OwnThreads gives the session its own thread pools. Otherwise the first
	// session of the process fixes the size of the pools that all share.
	OwnThreads bool

	// GPU settings; they have no effect on a library without GPU support.
	// AllowGrowth takes the card's memory as it is needed instead of nearly
	// all of it at once, MemoryFraction (0..1, zero: no bound) bounds it, and
	// VisibleDevices lists the cards that may be used, such as "0,2".
	AllowGrowth    bool
	MemoryFraction float64
	VisibleDevices string
}

// config is the serialized ConfigProto. It refuses what TensorFlow would end
// the process for.
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
		// Threads that spin while they wait for work take the processor from
		// those that have some, and make large models no faster.
		Experimental: &tfpb.ConfigProto_Experimental{DisableThreadSpinning: true},
		GpuOptions: &tfpb.GPUOptions{
			AllowGrowth:                 o.AllowGrowth,
			PerProcessGpuMemoryFraction: o.MemoryFraction,
			VisibleDeviceList:           o.VisibleDevices,
		},
	}, nil
}
