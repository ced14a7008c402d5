package model

import (
	"slices"
	"testing"
	"time"
)

// measured returns a measurement with these milliseconds an image, in rounds of batches of 1.
func measured(m Measurement, rounds ...float64) Measurement {
	for _, ms := range rounds {
		m.Rounds = append(m.Rounds, map[int]time.Duration{1: time.Duration(ms * float64(time.Millisecond))})
	}
	return m
}

func TestChoose(t *testing.T) {
	plain := Measurement{Optimize: optimizeOff}
	tensorFlow := Measurement{Optimize: optimizeAuto, Kernels: kernelsTensorFlow}
	oneDNN := Measurement{Optimize: optimizeAuto, Kernels: kernelsOneDNN}
	oneThread := Measurement{Optimize: optimizeAuto, Kernels: kernelsOneDNN, Threads: 1}
	bfloat16 := Measurement{Optimize: optimizeAuto, Kernels: kernelsOneDNN, Precision: precisionBFloat16}
	int8 := Measurement{Optimize: optimizeAuto, Kernels: kernelsOneDNN, Precision: precisionInt8}
	unusable := func(m Measurement) Measurement { m.WhyNot = "no"; return m }
	given := Config{Optimize: optimizeAuto, Kernels: "auto"}
	with := func(change func(*Config)) Config { c := given; change(&c); return c }
	precision := func(p string) Config { return with(func(c *Config) { c.Precision = p }) }

	for _, test := range []struct {
		name    string
		config  Config
		all     []Measurement
		best    int
		leading []int
		open    bool
	}{
		{"separate spreads", given,
			[]Measurement{measured(plain, 60, 61, 62), measured(tensorFlow, 40, 41, 42), measured(oneDNN, 50, 51, 52)}, 1, []int{1}, false},
		{"a wide spread that is separate", given,
			[]Measurement{measured(plain, 30, 50, 59), measured(oneDNN, 60, 70, 90)}, 0, []int{0}, false},
		{"equally fast: the given settings are kept", given,
			[]Measurement{measured(plain, 50, 50.5, 51), measured(oneDNN, 51, 51.5, 52)}, 1, []int{0, 1}, false},
		{"equally fast, and the given settings are slow", given,
			[]Measurement{measured(plain, 50, 50.5, 51), measured(tensorFlow, 51, 51.5, 52), measured(oneDNN, 70, 71, 72)}, 0, []int{0, 1}, false},
		{"spreads overlap: the given settings are kept", given,
			[]Measurement{measured(plain, 50, 52, 60), measured(oneDNN, 55, 58, 62)}, 1, []int{0, 1}, true},
		{"spreads of others overlap, and the given settings are slow", given,
			[]Measurement{measured(plain, 50, 52, 60), measured(tensorFlow, 55, 58, 62), measured(oneDNN, 80, 81, 82)}, 0, []int{0, 1}, true},
		{"one round of four was disturbed", given,
			[]Measurement{measured(plain, 50, 50, 90, 51), measured(oneDNN, 60, 61, 60, 95)}, 0, []int{0}, false},
		{"one round of three was disturbed", given,
			[]Measurement{measured(plain, 50, 50, 90), measured(oneDNN, 60, 61, 60)}, 1, []int{0, 1}, true},
		{"two rounds of eight were disturbed", given,
			[]Measurement{measured(plain, 50, 50, 90, 51, 51, 80, 50, 50), measured(oneDNN, 60, 61, 60, 60, 60, 61, 60, 60)}, 0, []int{0}, false},
		{"model.optimize=off is given", with(func(c *Config) { c.Optimize = optimizeOff }),
			[]Measurement{measured(plain, 51, 51.5, 52), measured(oneDNN, 50, 50.5, 51)}, 0, []int{0, 1}, false},
		{"model.kernels=tensorflow is given", with(func(c *Config) { c.Kernels = kernelsTensorFlow }),
			[]Measurement{measured(plain, 50, 51, 52), measured(oneDNN, 50, 51, 52), measured(tensorFlow, 50, 51, 52)}, 2, []int{0, 1, 2}, false},
		{"the library has no oneDNN", given,
			[]Measurement{measured(plain, 50, 51, 52), measured(tensorFlow, 50, 51, 52), unusable(oneDNN)}, 1, []int{0, 1}, false},
		{"fewer threads are as fast", given,
			[]Measurement{measured(oneDNN, 51, 51, 51), measured(oneThread, 50, 50, 50)}, 0, []int{0, 1}, false},
		{"fewer threads are given, and as fast", with(func(c *Config) { c.Session.IntraOpThreads = 1 }),
			[]Measurement{measured(oneDNN, 50, 50, 50), measured(oneThread, 51, 51, 51)}, 1, []int{0, 1}, false},
		{"other precisions are faster, and not asked for", given,
			[]Measurement{measured(oneDNN, 50, 51, 52), measured(bfloat16, 30, 31, 32), measured(int8, 10, 11, 12)}, 0, []int{0}, false},
		{"auto takes the fastest precision", precision(precisionAuto),
			[]Measurement{measured(oneDNN, 50, 51, 52), measured(bfloat16, 30, 31, 32), measured(int8, 10, 11, 12)}, 2, []int{2}, false},
		{"auto, no other precision can be used", precision(precisionAuto),
			[]Measurement{measured(oneDNN, 50, 51, 52), unusable(bfloat16), unusable(int8)}, 0, []int{0}, false},
		{"auto keeps float32 where nothing is clearly faster", precision(precisionAuto),
			[]Measurement{measured(int8, 50, 52, 60), measured(oneDNN, 55, 58, 62)}, 1, []int{0, 1}, true},
		{"int8 is asked for", precision(precisionInt8),
			[]Measurement{measured(oneDNN, 50, 51, 52), measured(bfloat16, 30, 31, 32), measured(int8, 70, 71, 72)}, 2, []int{2}, false},
		{"bfloat16 is asked for", precision(precisionBFloat16),
			[]Measurement{measured(oneDNN, 50, 51, 52), measured(bfloat16, 53, 54, 55), measured(int8, 10, 11, 12)}, 1, []int{1}, false},
		{"bfloat16 is asked for, and cannot be used", precision(precisionBFloat16),
			[]Measurement{measured(plain, 60, 61, 62), measured(oneDNN, 50, 51, 52), unusable(bfloat16)}, 1, []int{1}, false},
		{"the fastest cannot be used", given,
			[]Measurement{unusable(measured(plain, 10, 11, 12)), measured(oneDNN, 50, 51, 52)}, 1, []int{1}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.config.Batch.Max = 1
			got := choose(test.all, test.config)
			if got.best != test.best || !slices.Equal(got.leading, test.leading) || got.open != test.open {
				t.Errorf("best %d, leading %v, open %v; want %d, %v, %v", got.best, got.leading, got.open, test.best, test.leading, test.open)
			}
			if got.clear() == got.open {
				t.Errorf("clear: %v, open: %v", got.clear(), got.open)
			}
		})
	}
}

func TestChooseBatch(t *testing.T) {
	type rounds = []map[int]time.Duration
	for _, test := range []struct {
		name       string
		rounds     rounds
		given      int
		size, open int
	}{
		{"larger is faster", rounds{{1: 10, 2: 10, 4: 10}}, 4, 4, 0},
		{"smaller is faster", rounds{{1: 10, 2: 20, 4: 50}}, 4, 1, 0},
		{"a smaller one is as good", rounds{{1: 1000, 2: 1960, 4: 3880}}, 4, 2, 0},
		{"smaller is much faster", rounds{{1: 10, 2: 30, 4: 90}}, 4, 1, 0},
		{"noisy: the given size is kept", rounds{{1: 100, 2: 210, 4: 440}, {1: 130, 2: 260, 4: 480}, {1: 120, 2: 250, 4: 500}}, 4, 4, 1},
		{"noisy, and clear nevertheless", rounds{{1: 100, 4: 600}, {1: 130, 4: 800}, {1: 120, 4: 700}}, 4, 1, 0},
		{"the model takes one size only", rounds{{8: 100}}, 4, 8, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			if size, open := chooseBatch(Measurement{Rounds: test.rounds}, test.given); size != test.size || open != test.open {
				t.Errorf("%d, open %d; want %d, %d", size, open, test.size, test.open)
			}
		})
	}
}

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		rounds      []time.Duration
		least, most time.Duration
	}{
		{nil, 0, 0},
		{[]time.Duration{7}, 7, 7},
		{[]time.Duration{9, 7, 8}, 7, 9},
		{[]time.Duration{9, 7, 8, 6}, 6, 8},
		{[]time.Duration{1, 2, 3, 4, 5, 6, 7, 8}, 1, 6},
	} {
		if got := newSpread(test.rounds); got != (spread{test.least, test.most}) {
			t.Errorf("%v: got %v", test.rounds, got)
		}
	}
}

func TestCompareMeasurements(t *testing.T) {
	fast, slow := measured(Measurement{}, 1, 2, 3), measured(Measurement{}, 2, 3, 4)
	half := measured(Measurement{Precision: precisionBFloat16}, 1, 1, 1)
	none := measured(Measurement{WhyNot: "it differs"}, 1, 1, 1)
	sorted := []Measurement{fast, slow, half, none}
	for i, a := range sorted {
		for j, b := range sorted {
			if got := compareMeasurements(a, b); got < 0 != (i < j) || got > 0 != (i > j) {
				t.Errorf("%v and %v: got %d", a, b, got)
			}
		}
	}
}
