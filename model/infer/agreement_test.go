package infer

import (
	"math"
	"testing"
)

func prediction(classes ...Class) Prediction { return Prediction{Classes: classes} }

func TestAgreementAdd(t *testing.T) {
	cat, dog := Class{Label: "cat", Index: 0}, Class{Label: "dog", Index: 1}
	with := func(c Class, score float32) Class { c.Score = score; return c }
	for name, test := range map[string]struct {
		reference, other Prediction
		counted, same    bool
		difference       float64
	}{
		"same class":           {prediction(with(cat, 0.9), with(dog, 0.1)), prediction(with(cat, 0.8), with(dog, 0.2)), true, true, 0.1},
		"another class":        {prediction(with(cat, 0.6), with(dog, 0.4)), prediction(with(dog, 0.7), with(cat, 0.3)), true, false, 0.3},
		"class not listed":     {prediction(with(cat, 0.6)), prediction(with(dog, 0.5)), true, false, 0.1},
		"large scores":         {prediction(with(cat, 20)), prediction(with(cat, 19)), true, true, 0.05},
		"negative scores":      {prediction(with(cat, -20)), prediction(with(cat, -21)), true, true, 0.05},
		"scores without names": {Prediction{Scores: []float32{0.1, 0.7}}, Prediction{Scores: []float32{0.6, 0.4}}, true, false, 0.3},
		"arrays alone":         {Prediction{}, Prediction{}, false, false, 0},
		"scores on one side":   {prediction(with(cat, 1)), Prediction{}, false, false, 0},
	} {
		var a Agreement
		difference, ok := a.Add(test.reference, test.other)
		if ok != test.counted || (a.Records == 1) != test.counted || (a.Same == 1) != test.same {
			t.Errorf("%s: counted %v, %+v", name, ok, a)
		}
		for _, got := range []float64{difference, a.MeanDifference(), a.Largest} {
			if math.Abs(got-test.difference) > 1e-6 {
				t.Errorf("%s: a difference of %v, want %v", name, got, test.difference)
			}
		}
	}
}

// The bounds are the two numbers p with (k/n − p)² = z²·p·(1 − p)/n, found by bisection.
func TestWilson(t *testing.T) {
	for _, test := range []struct {
		k, n         int
		lower, upper float64
	}{
		{0, 0, 0, 1}, {10, 10, 0.722467, 1}, {0, 10, 0, 0.277533}, {9, 10, 0.595850, 0.982124},
		{381, 381, 0.990018, 1}, {380, 380, 0.989992, 1}, {1990, 2000, 0.990820, 0.997282},
	} {
		lower, upper := wilson(test.k, test.n)
		if math.Abs(lower-test.lower) > 2e-6 || math.Abs(upper-test.upper) > 2e-6 {
			t.Errorf("%d of %d: %.6f to %.6f, want %.6f to %.6f", test.k, test.n, lower, upper, test.lower, test.upper)
		}
	}
	if n := RecordsNeeded(0.99); n != 381 {
		t.Errorf("%d records are needed for 0.99, want 381", n)
	}
}

func TestDecided(t *testing.T) {
	for _, test := range []struct {
		name          string
		records, same int
		difference    float64 // in the mean
		want          Verdict
	}{
		{"nothing yet", 0, 0, 0, Open},
		{"too few", 380, 380, 0, Open},
		{"enough", 381, 381, 0, Agrees},
		{"enough, and scores are too far apart", 381, 381, 0.02, Open},
		{"a few differ", 1000, 998, 0.005, Agrees},
		{"more are needed", 1000, 995, 0.005, Open},
		{"at the end", 2000, 1990, 0.005, Agrees},
		{"scores are too far apart at the end", 2000, 1990, 0.02, Disagrees},
		{"not shown at the end", 2000, 1985, 0.005, Disagrees},
		{"cannot be shown any more", 40, 20, 0.005, Disagrees},
	} {
		a := Agreement{Records: test.records, Same: test.same, differences: test.difference * float64(test.records)}
		if got := a.Decided(LeastAgreement, 2000); got != test.want {
			t.Errorf("%s: %v, want %v (%v)", test.name, got, test.want, a)
		}
	}
	if got := (Agreement{}).Decided(LeastAgreement, 100); got != Disagrees {
		t.Errorf("100 records cannot show 0.99: %v", got)
	}
}
