package savedmodel

import (
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"inceptor/savedmodel/tfpb"
)

func TestOptionsConfig(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		want    *tfpb.ConfigProto
	}{
		{"zero", Options{}, &tfpb.ConfigProto{GpuOptions: &tfpb.GPUOptions{}}},
		{
			"threads",
			Options{IntraOpThreads: 3, InterOpThreads: 2, OwnThreads: true},
			&tfpb.ConfigProto{
				IntraOpParallelismThreads: 3,
				InterOpParallelismThreads: 2,
				UsePerSessionThreads:      true,
				GpuOptions:                &tfpb.GPUOptions{},
			},
		},
		{
			"cards",
			Options{Tags: []string{"serve", "gpu"}, AllowGrowth: true, MemoryFraction: 0.5, VisibleDevices: "0,2"},
			&tfpb.ConfigProto{
				GpuOptions: &tfpb.GPUOptions{
					AllowGrowth:                 true,
					PerProcessGpuMemoryFraction: 0.5,
					VisibleDeviceList:           "0,2",
				},
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b, err := test.options.config()
			must(t, err)
			test.want.AllowSoftPlacement = true
			test.want.Experimental = &tfpb.ConfigProto_Experimental{DisableThreadSpinning: true}
			got := new(tfpb.ConfigProto)
			must(t, proto.Unmarshal(b, got))
			if diff := cmp.Diff(test.want, got, protocmp.Transform()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TensorFlow would misread these numbers or end the process.
func TestOptionsImpossible(t *testing.T) {
	tests := []struct {
		name    string
		options Options
		want    string
	}{
		{"negative threads", Options{IntraOpThreads: -1}, "IntraOpThreads cannot be -1"},
		{"too many threads", Options{InterOpThreads: math.MaxInt32 + 1}, "InterOpThreads cannot be 2147483648"},
		{"negative fraction", Options{MemoryFraction: -0.1}, "MemoryFraction is -0.1"},
		{"too large a fraction", Options{MemoryFraction: 1.5}, "MemoryFraction is 1.5"},
		{"no number", Options{MemoryFraction: math.NaN()}, "MemoryFraction is NaN"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := test.options.config(); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("config: %v", err)
			}
			openLibrary(t)
			if _, err := Load(t.Context(), "testdata/tiny", test.options); err == nil {
				t.Error("Load takes them")
			}
			if _, err := NewSession(&tfpb.GraphDef{}, test.options); err == nil {
				t.Error("NewSession takes them")
			}
		})
	}
}
