package model

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"time"

	"inceptor/model/remote"
)

// A Trial is one way to run a version on this machine, and how it fared.
type Trial struct {
	Optimize, Kernels string // as in Config
	Precision         string // as in Config; empty: float32
	Threads           int    // that work on one operation; 0: one for each processor

	Load    time.Duration         // TensorFlow's own
	Memory  uint64                // bytes that it took, warm-up included
	Runs    map[int]time.Duration // the shortest, by the size of the batch
	Differs float64               // the largest difference of a score from the model's as it is
	WhyNot  string                // it was not to be had; empty: it was
}

// Each is what an image takes in batches of the size at which it takes least.
// The smallest size that is as good but for 3 % counts: larger ones only make
// images wait.
func (t Trial) Each() (size int, took time.Duration) {
	each := func(n int) float64 { return float64(t.Runs[n]) / float64(n) }
	least := math.Inf(1)
	for n := range t.Runs {
		least = min(least, each(n))
	}
	for n := range t.Runs {
		if each(n) <= 1.03*least && (size == 0 || n < size) {
			size = n
		}
	}
	return size, time.Duration(each(size))
}

const (
	tuneRounds = 2           // of loads; the settings take turns
	tuneFor    = time.Second // for each size of batch
	tuneRuns   = 3           // at least

	// maxDiffers is how far a score may be from the model's as it is.
	maxDiffers = 1e-5
)

// Tune tries the newest version of the model with the settings of a Trial that
// this machine has, one after the other, and returns the trials, the best one
// first; those in bfloat16, which change scores, come after all others, and
// those that were not to be had, or change scores all the same, last. It takes
// about a minute for Inception on two cores, and wants an idle machine. Its
// error is that of the model as it is.
func Tune(ctx context.Context, c Config) ([]Trial, error) { return tune(ctx, c, tuneFor) }

func tune(ctx context.Context, c Config, each time.Duration) ([]Trial, error) {
	if err := errors.Join(c.Validate()...); err != nil {
		return nil, err
	}
	t, err := newTuner(c, each, remote.NoVersion)
	if err != nil {
		return nil, err
	}
	trials := []Trial{
		{Optimize: optimizeOff}, {Optimize: optimizeAuto, Kernels: kernelsTensorFlow}, {Optimize: optimizeAuto, Kernels: kernelsOneDNN},
		{Optimize: optimizeAuto, Kernels: kernelsOneDNN, Precision: precisionBFloat16},
	}
	if err := t.tryAll(ctx, trials); err != nil {
		return nil, err
	}
	slices.SortStableFunc(trials, compareTrials)
	var fewer []Trial
	for n := runtime.NumCPU() / 2; n >= 1; n /= 2 {
		fewer = append(fewer, Trial{Optimize: trials[0].Optimize, Kernels: trials[0].Kernels, Threads: n})
	}
	if err := t.tryAll(ctx, fewer); err != nil {
		return nil, err
	}
	trials = append(trials, fewer...)
	slices.SortStableFunc(trials, compareTrials)
	return trials, nil
}

// errMadeUp is why a model cannot be tried that wants more of a record than
// its form.
var errMadeUp = errors.New("the model does not take a made-up record, and has no golden ones")

// CompareGraphs loads a version of the model as it is, and as c has it
// optimized, one after the other, and runs both on the same noise, or on its
// golden records if it is asked about other things than images. The Trial
// tells how far scores differ; in float32 more than 1e-5 is an error. WhyNot
// says what came between. c must validate.
func CompareGraphs(ctx context.Context, c Config, version int64) (Trial, error) {
	t, err := newTuner(c, 0, version)
	if err != nil {
		return Trial{}, err
	}
	plain := c
	plain.Optimize, plain.Precision = optimizeOff, ""
	var trial Trial
	for i, c := range []Config{plain, c} {
		v, _, drop, err := t.load(ctx, c)
		if err != nil {
			return Trial{}, err
		}
		trial = Trial{Optimize: c.Optimize, Runs: map[int]time.Duration{}}
		if v.model.Frozen {
			trial.Kernels, trial.Precision = v.model.Kernels.String(), v.model.Precision.String()
		} else if v.model.WhyNot != "" {
			trial.WhyNot = "not made: " + v.model.WhyNot
		}
		err = t.run(ctx, v, v.batcher.Max, &trial)
		drop()
		if i == 0 && errors.Is(err, errMadeUp) {
			trial.WhyNot = "not compared: " + errMadeUp.Error()
			return trial, nil
		}
		if err != nil {
			return trial, err
		}
	}
	return trial, nil
}

// compareTrials puts the faster one first, if it may be used.
func compareTrials(a, b Trial) int {
	rank := func(t Trial) (class int, each time.Duration) {
		switch {
		case t.WhyNot != "":
			return 2, 0
		case t.Precision == precisionBFloat16:
			class = 1
		}
		_, each = t.Each()
		return class, each
	}
	classA, eachA := rank(a)
	classB, eachB := rank(b)
	return cmp.Or(cmp.Compare(classA, classB), cmp.Compare(eachA, eachB))
}

type tuner struct {
	config Config
	at     candidate
	each   time.Duration
	golden [][]byte            // records of a version that is asked about other things than images
	want   map[int][][]float32 // the plain model's scores, by the size of the batch
}

// newTuner returns one for a version; remote.NoVersion: the newest.
func newTuner(c Config, each time.Duration, number int64) (*tuner, error) {
	candidates, err := scan(c.Dir)
	if err != nil {
		return nil, err
	}
	for _, at := range slices.Backward(candidates) {
		if number == remote.NoVersion || at.number == number {
			t := &tuner{config: c, each: each, at: at, want: map[int][][]float32{}}
			return t, t.readGolden()
		}
	}
	if number != remote.NoVersion {
		return nil, fmt.Errorf("%w: there is no version %d in %s", ErrNoVersion, number, c.Dir)
	}
	return nil, fmt.Errorf("%w: there is none in %s", ErrNoVersion, c.Dir)
}

func (t *tuner) readGolden() error {
	if t.config.Content.image() {
		return nil
	}
	list, err := readGolden(t.at.dir)
	if err != nil {
		return err
	}
	for _, g := range list {
		record, err := g.read(t.at.dir)
		if err != nil {
			return err
		}
		t.golden = append(t.golden, record)
	}
	return nil
}

// item is one to run: a golden record, or noise, which a model of other things
// than images need not take.
func (t *tuner) item(ctx context.Context, v *version, number int) (item, error) {
	if len(t.golden) == 0 {
		return v.noise(ctx, uint64(number))
	}
	record := t.golden[number%len(t.golden)]
	if v.decode == nil {
		return item{encoded: record}, nil
	}
	return v.decode(ctx, record, Header{})
}

func (t *tuner) tryAll(ctx context.Context, trials []Trial) error {
	for range tuneRounds {
		for i := range trials {
			err := t.try(ctx, &trials[i])
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil && trials[i].Optimize == optimizeOff {
				return err
			}
			if err != nil {
				trials[i].WhyNot = err.Error()
			}
		}
	}
	return nil
}

// load loads the version, for as long as it takes to try it.
func (t *tuner) load(ctx context.Context, c Config) (v *version, took Durations, drop func(), err error) {
	return loadOnce(ctx, c, t.at, Given{})
}

// try loads the version, runs it, and notes what is better than before.
func (t *tuner) try(ctx context.Context, trial *Trial) error {
	c := t.config
	c.Optimize, c.Kernels, c.Precision = trial.Optimize, trial.Kernels, trial.Precision
	c.Session.IntraOpThreads = trial.Threads
	v, took, drop, err := t.load(ctx, c)
	if err != nil {
		return err
	}
	defer drop()
	if trial.Optimize == optimizeAuto && !v.model.Frozen {
		return errors.New(v.model.WhyNot)
	}
	if v.model.WhyFloat32 != "" {
		return errors.New(v.model.WhyFloat32)
	}
	if trial.Runs == nil {
		trial.Runs, trial.Load = map[int]time.Duration{}, took.Load
	}
	trial.Load, trial.Memory = min(trial.Load, took.Load), max(trial.Memory, v.took)
	for _, n := range v.batchSizes() {
		if err := t.run(ctx, v, n, trial); err != nil {
			return fmt.Errorf("batch of %d: %w", n, err)
		}
	}
	return nil
}

func (t *tuner) run(ctx context.Context, v *version, n int, trial *Trial) error {
	items := make([]item, n)
	for i := range items {
		it, err := t.item(ctx, v, i)
		if err != nil {
			return err
		}
		defer it.close()
		items[i] = it
	}
	var got scored
	for runs, begin := 0, time.Now(); runs < tuneRuns || time.Since(begin) < t.each; runs++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		start := time.Now()
		var err error
		got, err = v.run.batch(items)
		if len(t.golden) == 0 && !v.content.image() && errors.As(blame(err, ReasonModelRefused), new(*InputError)) {
			return fmt.Errorf("%w: %w", errMadeUp, err)
		}
		if err != nil {
			return err
		}
		if took := time.Since(start); trial.Runs[n] == 0 || took < trial.Runs[n] {
			trial.Runs[n] = took
		}
	}
	rows := got.numbers()
	if t.want[n] == nil {
		t.want[n] = rows
	}
	for i, row := range rows {
		for class, score := range row {
			want := float64(t.want[n][i][class])
			trial.Differs = max(trial.Differs, math.Abs(float64(score)-want)/max(1, math.Abs(want)))
		}
	}
	if !(trial.Differs <= maxDiffers) && trial.Precision != precisionBFloat16 { // NaN too
		return fmt.Errorf("scores differ by %.2g from those of the model as it is", trial.Differs)
	}
	return nil
}

// noise is a random item, the same for the same seed.
func (v *version) noise(ctx context.Context, seed uint64) (item, error) {
	switch v.content {
	case Rows:
		return v.noisyRow(seed), nil
	case Examples:
		return item{encoded: []byte{}}, nil
	}
	random := rand.New(rand.NewPCG(seed, 0))
	if v.decode == nil {
		return v.noisyPicture(random)
	}
	image := drawing{v.pixels.Size[1], v.pixels.Size[0], func(int, int, int) byte { return byte(random.Uint32()) }}.bitmap()
	h, err := ParseHeader(image)
	if err != nil {
		return item{}, err
	}
	return v.decode(ctx, image, h)
}

// noisyPicture is noise in a format that the model takes.
func (v *version) noisyPicture(random *rand.Rand) (item, error) {
	if len(v.samples) == 0 {
		return item{}, errMadeUp
	}
	d := drawing{sampleWidth, sampleHeight, func(int, int, int) byte { return byte(random.Uint32()) }}
	return item{encoded: d.encode(v.samples[0].format)}, nil
}

// noisyRow has numbers from 0 to 1, and empty strings.
func (v *version) noisyRow(seed uint64) item {
	r, random := blankRow(v.run.sig.feeds, nil), rand.New(rand.NewPCG(seed, 0))
	for _, f := range rowFeeds(v.run.sig.feeds) {
		size := f.dtype.Size()
		for i := range f.n * size / max(size, 1) {
			putElement(r.numbers[f.at+i*size:][:size], f.dtype, strconv.AppendFloat(nil, random.Float64(), 'f', 6, 64))
		}
	}
	return item{row: r}
}
