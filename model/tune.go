package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"inceptor/model/infer"
	"inceptor/model/remote"
)

// A Measurement is one combination of settings, and what a version took with it on this machine.
type Measurement struct {
	Optimize, Kernels string // as in Config
	Precision         string // as in Config; empty: float32
	Threads           int    // for one operation; 0: one for each processor

	Load    time.Duration           // TensorFlow's part of the load, the shortest
	Memory  uint64                  // bytes for load and warm-up, the most
	Rounds  []map[int]time.Duration // the shortest run of each round, by the size of the batch
	Differs float64                 // the largest difference of a score from the plain model's
	Golden  bool                    // the scores are those of golden records; else those of noise
	WhyNot  string                  // why these settings cannot be used; empty: they can
}

// Run returns the shortest run of a batch of n. It is 0 if there was none.
func (m Measurement) Run(n int) (shortest time.Duration) {
	for _, round := range m.Rounds {
		if took := round[n]; took > 0 && (shortest == 0 || took < shortest) {
			shortest = took
		}
	}
	return shortest
}

// Spread returns how long an image took, in the best batch of each round: the least, and the most
// in three quarters of the rounds.
func (m Measurement) Spread() (least, most time.Duration) {
	s := m.spread()
	return s.least, s.most
}

const (
	tuneFor  = time.Second / 2 // of runs at least, for each size of batch
	tuneRuns = 3               // at least, for each size of batch

	leastRounds = 3 // loads with each combination of settings, alternating
	mostRounds  = 8

	// maxDiffers is how much a score may differ from the plain model's.
	maxDiffers = 1e-5
)

// A Tuning is what Tune has found out.
type Tuning struct {
	// Measurements has the settings to use first. The others follow, the fastest first: those in
	// float32, those in other precisions, and those that cannot be used.
	Measurements []Measurement
	Batch        int // the size of a batch to use
	Rounds       int // the most of a comparison

	// Undecided are comparisons that were too noisy. Each has the settings that may be the
	// fastest. Of these the given ones are kept.
	Undecided [][]Measurement
	// UndecidedBatch is the size of a batch that may be better than Batch, which was given.
	// 0: none.
	UndecidedBatch int
}

// Tune measures the newest version of the model with several combinations of settings. It repeats
// that until it is clear which is the fastest, or for eight rounds. It chooses among the precisions
// that c.Precision allows. Settings that change scores although they should not are not chosen.
// show is told what is measured now, and how many of the measurements are done. It is an error if
// the plain model, which is not optimized, cannot be measured.
func Tune(ctx context.Context, c Config, show func(what string, done, total int)) (Tuning, error) {
	return tune(ctx, c, tuneFor, mostRounds, show)
}

func tune(ctx context.Context, c Config, each time.Duration, rounds int, show func(what string, done, total int)) (Tuning, error) {
	if err := errors.Join(c.Validate()...); err != nil {
		return Tuning{}, err
	}
	t, err := newTuner(c, each, remote.NoVersion)
	if err != nil {
		return Tuning{}, err
	}
	t.show, t.rounds = show, rounds
	all := []Measurement{
		{Optimize: optimizeOff}, {Optimize: optimizeAuto, Kernels: kernelsTensorFlow}, {Optimize: optimizeAuto, Kernels: kernelsOneDNN},
		{Optimize: optimizeAuto, Kernels: kernelsOneDNN, Precision: precisionBFloat16},
		{Optimize: optimizeAuto, Kernels: kernelsOneDNN, Precision: precisionInt8},
	}
	var threads []int
	for n := runtime.NumCPU() / 2; n >= 1; n /= 2 {
		threads = append(threads, n)
	}
	t.total = leastRounds * len(all)
	if len(threads) > 0 {
		t.total += leastRounds * (1 + len(threads))
	}
	var found Tuning
	found.Measurements, err = t.compare(ctx, &found, all)
	if err != nil {
		return Tuning{}, err
	}
	if len(threads) > 0 {
		best := found.Measurements[0]
		again := Measurement{Optimize: best.Optimize, Kernels: best.Kernels, Precision: best.Precision}
		fewer := []Measurement{again}
		for _, n := range threads {
			again.Threads = n
			fewer = append(fewer, again)
		}
		if fewer, err = t.compare(ctx, &found, fewer); err != nil {
			return Tuning{}, err
		}
		found.Measurements = append(fewer, found.Measurements[1:]...)
	}
	slices.SortStableFunc(found.Measurements[1:], compareMeasurements)
	return found, nil
}

// CompareGraphs runs a version plain, and then optimized as c says, on its golden records or, if
// it has none, on noise. The Measurement says how much scores differ; in float32 more than 1e-5 is
// an error. WhyNot says why the graph was not optimized, or not compared. c must be valid.
func CompareGraphs(ctx context.Context, c Config, version int64) (Measurement, error) {
	t, err := newTuner(c, 0, version)
	if err != nil {
		return Measurement{}, err
	}
	plain := c
	plain.Optimize, plain.Precision = optimizeOff, ""
	var m Measurement
	for i, c := range []Config{plain, c} {
		v, _, release, err := t.load(ctx, c)
		if err != nil {
			return Measurement{}, err
		}
		m = Measurement{Optimize: c.Optimize, Golden: len(t.golden) > 0}
		m.Kernels, m.Precision = v.Optimized()
		if why := v.WhyNotOptimized(); why != "" {
			m.WhyNot = "not made: " + why
		}
		_, err = t.run(ctx, v, v.MaxBatch(), &m)
		release()
		if i == 0 && errors.Is(err, infer.ErrMadeUp) {
			m.WhyNot = "not compared: " + infer.ErrMadeUp.Error()
			return m, nil
		}
		if err != nil {
			return m, err
		}
	}
	return m, nil
}

// compareMeasurements sorts as Tuning.Measurements says.
func compareMeasurements(a, b Measurement) int {
	class := func(m Measurement) int {
		switch {
		case m.WhyNot != "":
			return 2
		case m.Precision != "":
			return 1
		}
		return 0
	}
	if order := cmp.Compare(class(a), class(b)); order != 0 || a.WhyNot != "" {
		return order
	}
	return cmp.Compare(a.spread().least, b.spread().least)
}

// A tuner measures one version with different settings. Not for concurrent use.
type tuner struct {
	config Config
	folder infer.Folder        // of the version
	each   time.Duration       // of runs at least, for each size of batch
	rounds int                 // of a comparison at most
	golden [][]byte            // golden records, if there are any
	want   map[int][][]float32 // the plain model's scores, by the size of the batch

	show        func(what string, done, total int)
	done, total int // measurements
}

// newTuner returns a tuner for a version; remote.NoVersion means the newest.
func newTuner(c Config, each time.Duration, number int64) (*tuner, error) {
	candidates, err := scan(c.Dir)
	if err != nil {
		return nil, err
	}
	for _, folder := range slices.Backward(candidates) {
		if number == remote.NoVersion || folder.Version == number {
			golden, err := infer.GoldenRecords(folder.Dir)
			return &tuner{config: c, each: each, folder: folder, golden: golden, want: map[int][][]float32{}}, err
		}
	}
	if number != remote.NoVersion {
		return nil, fmt.Errorf("%w: there is no version %d in %s", ErrNoVersion, number, c.Dir)
	}
	return nil, fmt.Errorf("%w: there is none in %s", ErrNoVersion, c.Dir)
}

// compare measures settings in rounds until it is clear which are the best, and returns the
// measurements, with those to use first. It adds to found what else it finds.
func (t *tuner) compare(ctx context.Context, found *Tuning, all []Measurement) ([]Measurement, error) {
	for i := range all {
		all[i].Golden = len(t.golden) > 0
	}
	var c choice
	measured := make([]bool, len(all)) // in the next round
	for i := range measured {
		measured[i] = true
	}
	for round := range t.rounds {
		if err := t.round(ctx, all, measured, round); err != nil {
			return nil, err
		}
		if allowedIn(all, t.config.Precision) == nil {
			return nil, errors.New(all[0].WhyNot)
		}
		if round+1 < leastRounds {
			continue
		}
		found.Rounds = max(found.Rounds, round+1)
		c = choose(all, t.config)
		if c.clear() || round+1 == t.rounds {
			break
		}
		measured = make([]bool, len(all))
		for _, i := range c.leading {
			measured[i] = true
			t.total++
		}
	}
	if c.open {
		var undecided []Measurement
		for _, i := range c.leading {
			undecided = append(undecided, all[i])
		}
		found.Undecided = append(found.Undecided, undecided)
	}
	found.Batch, found.UndecidedBatch = c.batch, c.openBatch
	all[0], all[c.best] = all[c.best], all[0]
	return all, nil
}

// round measures settings once more, every other round in the opposite order. The first round
// begins with the plain model.
func (t *tuner) round(ctx context.Context, all []Measurement, measured []bool, round int) error {
	for i := range all {
		if round%2 == 1 {
			i = len(all) - 1 - i
		}
		m := &all[i]
		if !measured[i] {
			continue
		}
		if m.WhyNot != "" {
			t.total--
			continue
		}
		t.show(fmt.Sprintf("round %d, %s", round+1, m), t.done, t.total)
		t.done++
		err := t.measure(ctx, m)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && m.Optimize == optimizeOff {
			return err
		}
		if err != nil {
			m.WhyNot = err.Error()
		}
	}
	return nil
}

// load loads the version; the caller must call release.
func (t *tuner) load(ctx context.Context, c Config) (v *infer.Version, took infer.Durations, release func(), err error) {
	return infer.LoadOnce(ctx, c.Options(), t.folder.Version, t.folder.Dir, infer.SpecOverrides{})
}

// measure loads the version once more, runs it, and keeps the best results.
func (t *tuner) measure(ctx context.Context, m *Measurement) error {
	c := t.config
	c.Optimize, c.Kernels, c.Precision = m.Optimize, m.Kernels, m.Precision
	c.Session.IntraOpThreads = m.Threads
	if m.Precision == precisionInt8 && !t.hasRanges() {
		return errors.New(`it has no ranges: "inceptor quantize" measures them`)
	}
	v, took, release, err := t.load(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	if kernels, _ := v.Optimized(); m.Optimize == optimizeAuto && kernels == "" {
		return errors.New(v.WhyNotOptimized())
	}
	if _, precision := v.Optimized(); m.Precision != "" && precision != m.Precision {
		return errors.New(cmp.Or(v.WhyFloat32(), "it runs in "+precision))
	}
	if len(m.Rounds) == 0 {
		m.Load = took.Load
	}
	m.Load, m.Memory = min(m.Load, took.Load), max(m.Memory, v.Memory())
	runs := map[int]time.Duration{}
	for _, n := range v.BatchSizes() {
		if runs[n], err = t.run(ctx, v, n, m); err != nil {
			return fmt.Errorf("batch of %d: %w", n, err)
		}
	}
	m.Rounds = append(m.Rounds, runs)
	return nil
}

// hasRanges tells whether the version has a file with ranges for int8.
func (t *tuner) hasRanges() bool {
	_, err := os.Stat(filepath.Join(t.folder.Dir, infer.CalibrationFile))
	return err == nil
}

// run runs batches of n records. It returns the shortest time, and keeps the largest difference of
// scores.
func (t *tuner) run(ctx context.Context, v *infer.Version, n int, m *Measurement) (shortest time.Duration, err error) {
	batch, err := v.NewTestBatch(ctx, n, t.golden)
	if err != nil {
		return 0, err
	}
	defer batch.Close()
	for runs, begin := 0, time.Now(); runs < tuneRuns || time.Since(begin) < t.each; runs++ {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := batch.Run(); err != nil {
			return 0, err
		}
		if took := time.Since(start); shortest == 0 || took < shortest {
			shortest = took
		}
	}
	rows := batch.Floats()
	if t.want[n] == nil {
		t.want[n] = rows
	}
	for i, row := range rows {
		for class, score := range row {
			want := float64(t.want[n][i][class])
			m.Differs = max(m.Differs, math.Abs(float64(score)-want)/max(1, math.Abs(want)))
		}
	}
	if !(m.Differs <= maxDiffers) && (m.Precision == "" || m.Precision == precisionFloat32) { // NaN too
		return 0, fmt.Errorf("scores differ by %.2g from those of the model as it is", m.Differs)
	}
	return shortest, nil
}
