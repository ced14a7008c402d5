package infer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"inceptor/savedmodel"
)

// A Calibrator measures the ranges of a version's layers, which int8 needs, on records. It keeps
// no record. It is for one goroutine. The caller keeps the version from being freed.
type Calibrator struct {
	v      *Version
	run    runner // fetches the layers as well
	digest string
	names  []string // of the layers
	ranges []histogram
	seen   int // records
}

// NewCalibrator returns a Calibrator for a version that runs in float32. The first record makes
// TensorFlow prepare the layers once more, and that takes the memory of the filters again until the
// version is freed. The error is that of CheckInt8, or one of reading the version's files.
func (v *Version) NewCalibrator(ctx context.Context) (*Calibrator, error) {
	if err := CheckInt8(v); err != nil {
		return nil, err
	}
	layers := v.model.Layers()
	c := &Calibrator{v: v, ranges: make([]histogram, len(layers))}
	for _, l := range layers {
		c.names = append(c.names, l.Name)
	}
	outputs := v.sig.outputs()
	f, err := v.model.LayerFunction(v.sig.Signature, v.sig.inputs(), outputs, c.names)
	if err != nil {
		return nil, err
	}
	c.run = newRunner(v.sig, func(ctx context.Context, inputs ...*savedmodel.Tensor) ([]*savedmodel.Tensor, error) {
		out, err := f.Run(ctx, inputs...)
		if err != nil {
			return nil, err
		}
		defer closeTensors(out[len(outputs):])
		return out[:len(outputs)], c.count(out[len(outputs):])
	})
	c.run.filler = v.run.filler
	c.digest, err = savedmodel.WeightsDigest(ctx, v.dir)
	return c, err
}

// CheckInt8 returns an error if a version that runs in float32 can never run in int8, with the
// reason.
func CheckInt8(v *Version) error {
	switch {
	case !v.hasScores():
		return errors.New("answers of this version have only arrays, and without scores nothing shows whether int8 agrees with float32")
	case len(v.model.Layers()) == 0:
		return fmt.Errorf("no layer of the model can be computed in int8: %s", whyNoInt8(v.model))
	}
	return nil
}

// whyNoInt8 returns why a model has no layers whose ranges int8 needs.
func whyNoInt8(m *savedmodel.Model) string {
	switch {
	case !m.Frozen:
		return "its graph is not optimized"
	case m.Precision != savedmodel.PrecisionFloat32:
		return "it runs in " + m.Precision.String()
	}
	return "TensorFlow's library has no kernels for that, or no convolution is followed by another one"
}

// Add runs one record and counts the results of its layers. The error is an *InputError if the
// record is to blame; then nothing of it counts.
func (c *Calibrator) Add(ctx context.Context, content []byte) (err error) {
	defer Recovered(&err)
	v := c.v
	header, err := v.inspect(content)
	if err != nil {
		return err
	}
	it := item{encoded: content}
	if v.decode != nil {
		if it, _, err = v.decodeRecord(ctx, content, header); err != nil {
			return err
		}
	} else { // the model decodes it when it runs
		need := v.decodeLimits.need(content, header, v.bytesPerPixel)
		if err := v.decodeLimits.bytes.Acquire(ctx, need); err != nil {
			return err
		}
		defer v.decodeLimits.bytes.Release(need)
	}
	defer it.close()
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := c.run.batch([]item{it}); err != nil {
		return blameInput(err, ReasonModelRefused)
	}
	c.seen++
	return nil
}

// count counts the results of the layers, if all of them are finite.
func (c *Calibrator) count(results []*savedmodel.Tensor) error {
	values, largest := make([][]float32, len(results)), make([]float32, len(results))
	for i, t := range results {
		var err error
		if values[i], err = savedmodel.Data[float32](t); err != nil {
			return fmt.Errorf("layer %q: %w", c.names[i], err)
		}
		if largest[i] = largestOf(values[i]); math.IsNaN(float64(largest[i])) || math.IsInf(float64(largest[i]), 0) {
			return &InputError{ReasonNotFinite, fmt.Errorf("layer %q has the result %v", c.names[i], largest[i])}
		}
	}
	for i := range values {
		c.ranges[i].add(values[i], largest[i])
	}
	return nil
}

// Calibration returns the ranges of the records so far, with MethodLeastError.
func (c *Calibrator) Calibration() Calibration {
	all := Calibration{Digest: c.digest, Records: c.seen, Method: MethodLeastError, Layers: map[string]LayerRange{}}
	if c.v.preprocessing != nil {
		all.Pixels = c.v.preprocessing.input()
	}
	for i, name := range c.names {
		all.Layers[name] = c.ranges[i].ends()
	}
	return all
}
