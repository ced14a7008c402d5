package infer

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// The ranges of a histogram are those of the sorted values, up to the width of a bin, whatever the
// magnitude of the values and their order.
func TestHistogram(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, value := range map[string]func() float32{
		"zeros":      func() float32 { return 0 },
		"one value":  func() float32 { return 5 },
		"uniform":    random.Float32,
		"negative":   func() float32 { return -random.Float32() },
		"half zeros": func() float32 { return max(0, float32(random.NormFloat64())) },
		"wide":       func() float32 { return float32(math.Exp(1.5 * random.NormFloat64())) },
		"small":      func() float32 { return 1e-5 * random.Float32() },
		"large":      func() float32 { return 1e6 * random.Float32() },
	} {
		var h histogram
		var all []float32
		for range 10 {
			batch := make([]float32, 1000)
			for i := range batch {
				batch[i] = value()
			}
			h.add(batch, largestOf(batch))
			for _, v := range batch {
				all = append(all, float32(math.Abs(float64(v))))
			}
		}
		slices.Sort(all)
		got, exact := h.ends(), all[len(all)*999/1000-1]
		if got.Max != all[len(all)-1] {
			t.Errorf("%s: max %v, want %v", name, got.Max, all[len(all)-1])
		}
		if most := max(exact*(1+1.0/64), 1.1/(1<<24)); got.Percentile < exact || got.Percentile > most {
			t.Errorf("%s: percentile %v, want %v or at most %v", name, got.Percentile, exact, most)
		}
		// No other range may be much better.
		best := got.Max
		for end := got.Max; end > got.Max/1000; end *= 0.97 {
			if roundingError(all, end) < roundingError(all, best) {
				best = end
			}
		}
		if e, least := roundingError(all, got.LeastError), roundingError(all, best); e > 1.05*least {
			t.Errorf("%s: the range %v has the squared error %v; %v has %v", name, got.LeastError, e, best, least)
		}
	}
}

// roundingError is the squared error of values in steps of int8 up to end.
func roundingError(values []float32, end float32) (sum float64) {
	if end == 0 {
		return 0
	}
	step := float64(end) / int8Steps
	for _, v := range values {
		e := math.Round(float64(min(v, end))/step)*step - float64(v)
		sum += e * e
	}
	return sum
}

// A value beyond the bins is never cut off.
func TestHistogramOutOfBins(t *testing.T) {
	var h histogram
	values := append(make([]float32, 10_000), 1e9)
	h.add(values, largestOf(values))
	h.add([]float32{1, 2}, 2)
	if got, want := h.ends(), (LayerRange{LeastError: 1e9, Max: 1e9, Percentile: 1.0 / (1 << 24) * (1 + 1.0/64)}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	h = histogram{}
	h.add([]float32{1e9, 2e9}, 2e9)
	if got, want := h.ends(), (LayerRange{LeastError: 2e9, Max: 2e9, Percentile: 2e9}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestLargestOf(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for name, test := range map[string]struct {
		values []float32
		want   float32
	}{
		"nothing":  {nil, 0},
		"negative": {[]float32{1, -3, 2}, 3},
		"infinite": {[]float32{1, -inf, 2}, inf},
		"NaN":      {[]float32{inf, -nan, 2}, nan},
	} {
		if got := largestOf(test.values); got != test.want && !(math.IsNaN(float64(got)) && math.IsNaN(float64(test.want))) {
			t.Errorf("%s: %v, want %v", name, got, test.want)
		}
	}
}
