//go:build !race

package infer

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"inceptor/savedmodel"
)

// Tensors of the trained Inception: what the last pool leaves of a picture, and the layer before
// the one with the classes.
const (
	inceptionLayers = "StatefulPartitionedCall_1/StatefulPartitionedCall/functional_1/"
	afterPools      = inceptionLayers + "flatten_1_1/Reshape"
	beforeClasses   = inceptionLayers + "dense_2_1/Relu"
)

// A comparison sums up how far int8 is from float32.
type comparison struct {
	pictures, same    int
	others            []string // pictures with another best class
	difference, worst float64  // sum and largest of the differences of the best class's scores
	worstAt           string
	pooled, last      similarity
	classes           map[int]int // pictures by best class
}

// A similarity sums up the cosine similarities of vectors.
type similarity struct {
	sum, least float64
	leastAt    string
}

func (s *similarity) add(p picture, a, b []float32) {
	v := cosine(a, b)
	if s.leastAt == "" || v < s.least {
		s.least, s.leastAt = v, p.String()
	}
	s.sum += v
}

// add compares what float32 and int8 give for a picture: scores, and the vectors after the pools
// and before the classes.
func (c *comparison) add(p picture, want, got [][]float32) {
	best, now := slices.Index(want[0], slices.Max(want[0])), slices.Index(got[0], slices.Max(got[0]))
	if c.classes == nil {
		c.classes = make(map[int]int)
	}
	c.pictures++
	c.classes[best]++
	if best == now {
		c.same++
	} else {
		c.others = append(c.others, fmt.Sprintf("%v: class %d with %.4f, in int8 %d with %.4f", p, best, want[0][best], now, got[0][now]))
	}
	d := math.Abs(float64(want[0][best] - got[0][best]))
	c.difference += d
	if d > c.worst {
		c.worst, c.worstAt = d, p.String()
	}
	c.pooled.add(p, want[1], got[1])
	c.last.add(p, want[2], got[2])
}

func (c *comparison) check(t *testing.T) {
	t.Helper()
	n := float64(c.pictures)
	t.Logf("%d of %d pictures have the same best class; pictures by class: %v", c.same, c.pictures, c.classes)
	t.Logf("its score differs by %.4f in the mean, %.4f at most (%s)", c.difference/n, c.worst, c.worstAt)
	t.Logf("cosine similarity after the last pool: %.4f in the mean, %.4f at least (%s)", c.pooled.sum/n, c.pooled.least, c.pooled.leastAt)
	t.Logf("cosine similarity before the classes: %.4f in the mean, %.4f at least (%s)", c.last.sum/n, c.last.least, c.last.leastAt)
	for _, other := range c.others {
		t.Log(other)
	}
	if !(float64(c.same) >= LeastAgreement*n) {
		t.Errorf("%d of %d pictures have the same best class, want %v", c.same, c.pictures, LeastAgreement)
	}
	if !(c.difference <= MaxScoreDifference*n) {
		t.Errorf("scores differ by %.4f in the mean, want at most %v", c.difference/n, MaxScoreDifference)
	}
	for where, s := range map[string]similarity{"after the last pool": c.pooled, "before the classes": c.last} {
		if !(s.sum >= 0.99*n) || !(s.least >= 0.95) {
			t.Errorf("cosine similarity %s: %.4f in the mean, %.4f at least; want 0.99, 0.95", where, s.sum/n, s.least)
		}
	}
}

// The trained Inception answers in int8 as in float32, on photos that its calibration has not seen:
// on one half of them, or with -nightly on each half.
func TestInt8Accuracy(t *testing.T) {
	float := inceptionIn(t, savedmodel.PrecisionFloat32, nil)
	want := fetcherOf(t, float, afterPools, beforeClasses)
	var c comparison
	all := folds(t)
	halves := all[:1]
	if *nightly {
		halves = all[:]
	}
	for i, f := range halves {
		calibration := f.quantize(t)
		t.Logf("fold %d: %d pictures for the calibration, ranges by %s", i+1, len(f.calibrate), calibration.Method)
		v := inceptionIn(t, savedmodel.PrecisionInt8, &calibration)
		if part := v.Int8(); !(part >= 0.9) {
			t.Errorf("%.3f of the multiplications are in int8, want 0.9", part)
		}
		got := fetcherOf(t, v, afterPools, beforeClasses)
		for _, p := range f.compare {
			c.add(p, vectors(t, want(p)), vectors(t, got(p)))
		}
	}
	c.check(t)
}
