package savedmodel

import (
	"errors"
	"testing"

	"inceptor/savedmodel/tfpb"
)

func TestFastestKernels(t *testing.T) {
	openLibrary(t)
	model := testModel{
		variables: map[string]testVariable{"w": filter(1, 3, 3, 16, 16), "v": vector(16, 2)},
		nodes: []*tfpb.NodeDef{
			input(1, 32, 32, 16), readOf("w"), readOf("v"), op("conv", "Conv2D", window(nil), "in", "w/read"), op("out", "BiasAdd", nil, "conv", "v/read"),
		},
	}
	dir := model.save(t)
	in := tensorOf(t, Float32, some(32*32*16, 1), 1, 32, 32, 16)
	runs := map[Kernels]int{}
	times, err := FastestKernels(dir, Options{}, func(m *Model) error {
		runs[m.Kernels]++
		answer(t, m, in)
		return nil
	})
	must(t, err)
	if len(times) != 2 || times[0].Run > times[1].Run || times[0].Run <= 0 || times[0].Kernels == times[1].Kernels {
		t.Errorf("times %v", times)
	}
	if n := tuneRounds * (1 + tuneRuns); runs[KernelsTensorFlow] != n || runs[KernelsOneDNN] != n {
		t.Errorf("runs %v, want %d each", runs, n)
	}

	wrong := errors.New("wrong")
	if _, err := FastestKernels(dir, Options{}, func(*Model) error { return wrong }); !errors.Is(err, wrong) {
		t.Errorf("got %v", err)
	}
	times, err = FastestKernels("testdata/tiny", Options{}, func(*Model) error { return wrong })
	if len(times) != 0 || err != nil {
		t.Errorf("a model that is not frozen: %v, %v", times, err)
	}
}
