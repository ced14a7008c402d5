package main

import (
	"slices"
	"testing"

	"inceptor/bench/measure"
)

// A service that takes 30 ms an image, beside 6 ms of others, would do a fifth more without them.
func TestAlone(t *testing.T) {
	r := measure.Results{
		serviceRate: {50, 40}, serviceCPU: {0.030, 0.040}, brokerServiceCPU: {0.005, 0.020}, ownServiceCPU: {0.001, 0.020},
	}
	if got := alone(r); !slices.Equal(got, []float64{60, 80}) {
		t.Errorf("got %v, want 60 and 80", got)
	}
	if got := alone(measure.Results{}); len(got) > 0 {
		t.Errorf("got %v of nothing", got)
	}
}
