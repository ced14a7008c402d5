package model

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"inceptor/savedmodel"
)

// warmUp runs the version's own warm-up requests and each of its batchSizes. Kernels are
// set up for each shape that they see, and the first record should not pay for it. Its
// error is that of a model that cannot run, or gives scores that are not numbers. each is
// the time for one image in the largest batch, with nothing else running.
func (v *version) warmUp(ctx context.Context, dir string, sig signature) (each time.Duration, err error) {
	own, err := v.warmUpRequests(ctx, dir, sig)
	if err != nil {
		return 0, err
	}
	if sig.content.image() && v.decode == nil {
		err = v.findSamples(ctx, sig)
	}
	for _, n := range v.batchSizes() {
		if err != nil {
			break
		}
		if err = ctx.Err(); err == nil {
			each, err = v.tryMadeUp(sig, n)
		}
		if formats := v.samples; len(formats) > 1 {
			for i := 0; i < len(formats) && refused(err); i++ { // of one format alone
				v.samples = formats[i : i+1]
				each, err = v.tryMadeUp(sig, n)
			}
		}
	}
	if err == nil && len(v.samples) > 0 {
		v.run.filler = v.samples[0].bytes
	}
	if err == nil {
		start := time.Now()
		err = v.fillLanes(sig)
		v.longest = max(v.longest, time.Since(start))
		return each, err
	}
	if (own > 0 || !sig.content.image()) && refused(err) {
		v.log.Warn("warmed up by its own requests only: the model refuses a made-up record",
			"model", v.info.Model, "version", v.info.Version, "requests", own, "err", err)
		return 0, nil
	}
	return 0, err
}

// noVariable is how TensorFlow says that a variable has no value.
var noVariable = regexp.MustCompile(`Could not find variable (.+?)\. This could mean`)

// lostVariable says what to do about a model whose variables TensorFlow's loader does
// not find, and leaves other errors as they are.
func lostVariable(err error) error {
	status := (*savedmodel.Error)(nil)
	if !errors.As(err, &status) {
		return err
	}
	found := noVariable.FindStringSubmatch(status.Message)
	if found == nil {
		return err
	}
	return errLost(found[1])
}

// errLost is the error of a version whose variable has no value once it is loaded.
func errLost(variable string) error {
	return fmt.Errorf("TensorFlow's loader has no value for the variable %q: "+
		"Keras 3 models must be written by model.export(DIR), not tf.saved_model.save", variable)
}

// refused tells whether an error is the model's refusal of what it was fed.
func refused(err error) bool {
	guilty := (*InputError)(nil)
	return errors.Is(err, errSamples) || errors.As(blame(err, ReasonModelRefused), &guilty) && guilty.Reason == ReasonModelRefused
}

// tryMadeUp runs a batch of made-up records, and returns what each of them takes.
func (v *version) tryMadeUp(sig signature, n int) (each time.Duration, err error) {
	items, err := v.warmUpItems(sig, n)
	start := time.Now()
	if err == nil {
		err = v.tryBatch(items)
	}
	if err != nil {
		return 0, fmt.Errorf("batch of %d: %w", n, err)
	}
	took := time.Since(start)
	v.longest = max(v.longest, took)
	return took / time.Duration(n), nil
}

// findSamples finds those of the made-up pictures that a model of encoded images
// takes. Its error says what the model said to each, if it takes none.
func (v *version) findSamples(ctx context.Context, sig signature) error {
	var reasons []string             // why pictures were refused
	formats := map[string][]string{} // that were refused, by reason
	for _, made := range []func() []sample{usualSamples, rareSamples} {
		var taken []sample
		for _, p := range made() {
			if err := ctx.Err(); err != nil {
				return err
			}
			v.samples = []sample{p}
			_, err := v.tryMadeUp(sig, 1)
			switch {
			case err == nil:
				taken = append(taken, p)
			case refused(err):
				why := err.Error()
				if formats[why] == nil {
					reasons = append(reasons, why)
				}
				formats[why] = append(formats[why], p.format)
			default:
				return err
			}
		}
		if v.samples = taken; taken != nil {
			return nil
		}
	}
	for i, why := range reasons {
		reasons[i] = fmt.Sprintf("%s of %d×%d: %s", strings.Join(formats[why], ", "), sampleWidth, sampleHeight, why)
	}
	return fmt.Errorf("%w (%s): put a request that it takes into %s", errSamples, strings.Join(reasons, "; "), savedmodel.WarmupFile)
}

var errSamples = errors.New("the model refuses every made-up picture")

// fillLanes runs as many of the largest batches at once as will be run: that
// is what takes the most memory.
func (v *version) fillLanes(sig signature) error {
	var g errgroup.Group
	for range Lanes {
		g.Go(func() error {
			items, err := v.warmUpItems(sig, v.batcher.Max)
			if err != nil {
				return err
			}
			return v.tryBatch(items)
		})
	}
	return g.Wait()
}

// batchSizes are those that the version is tried with.
func (v *version) batchSizes() []int { return batchSizes(v.batcher.Max, v.run.sig.batch) }

// batchSizes are the powers of two up to most, and most; or the fixed size, if that
// is not 0.
func batchSizes(most, fixed int) (sizes []int) {
	if fixed > 0 {
		return []int{fixed}
	}
	for n := 1; n < most; n *= 2 {
		sizes = append(sizes, n)
	}
	return append(sizes, most)
}

// tryBatch runs a batch outside the queue, and closes its items.
func (v *version) tryBatch(items []item) error {
	var got scored
	err := caught(func() (err error) { // it may be on a goroutine of its own
		got, err = v.run.batch(items)
		return err
	})
	for _, it := range items {
		it.close()
	}
	if err != nil {
		return err
	}
	return v.checkScored(got)
}

// checkScored makes sure that what the model gives can be answered.
func (v *version) checkScored(got scored) error {
	if err := v.run.sig.checkClasses(got); err != nil {
		return err
	}
	for i := range got.records() {
		var r result
		if err := r.take(got, i); err != nil {
			return err
		}
		row := r.scores
		if row == nil {
			continue // nothing is a class
		}
		if got.classes != nil {
			if err := checkIndices(len(v.labels), got.classes[i]); err != nil {
				return err
			}
			continue // a score's place is no class
		}
		if v.classes == 0 { // the signature did not say
			v.classes = len(row)
		}
		if len(row) != v.classes {
			return fmt.Errorf("%d scores for %d classes", len(row), v.classes)
		}
		if err := checkLabels(len(v.labels), len(row)); err != nil {
			return err
		}
	}
	return nil
}

// warmUpItems is a batch of made-up records.
func (v *version) warmUpItems(sig signature, n int) ([]item, error) {
	items := make([]item, n)
	for i := range items {
		switch {
		case sig.content == Rows:
			items[i].row = blankRow(sig.feeds, nil)
			continue
		case sig.content == Examples:
			items[i].encoded = []byte{}
			continue
		case sig.dtype == savedmodel.String:
			items[i].encoded = v.samples[i%len(v.samples)].bytes
			continue
		}
		var err error
		if i == 0 {
			items[i].pixels, err = v.decoder.textured()
		} else {
			items[i].pixels, err = copyOf(items[0].pixels)
		}
		if err != nil {
			for _, it := range items[:i+1] {
				it.close()
			}
			return nil, err
		}
	}
	return items, nil
}

func copyOf(t *savedmodel.Tensor) (*savedmodel.Tensor, error) {
	c, err := savedmodel.NewTensor(t.DType(), t.Shape()...)
	if err == nil {
		copy(c.Bytes(), t.Bytes())
	}
	return c, err
}
