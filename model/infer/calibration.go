package infer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"inceptor/savedmodel"
)

// CalibrationFile lies in a version's directory, if the version has ranges for int8 of its own.
const CalibrationFile = "assets.extra/int8.yaml"

// A Method says which end of a layer's results becomes its range.
type Method string

// The values of Method.
const (
	MethodLeastError Method = "least-error" // with the least squared error of rounding and of cutting off larger values
	MethodMax        Method = "max"         // the largest value
	MethodPercentile Method = "percentile"  // 99.9 % of all values are not larger; larger ones are cut off
)

// Methods returns all methods, the one that suits most models first.
func Methods() []Method { return []Method{MethodLeastError, MethodMax, MethodPercentile} }

// A LayerRange has the ranges that the methods choose, by the absolute values of a layer's results
// over all records of a calibration.
type LayerRange struct {
	LeastError float32 `yaml:"least_error"`
	Max        float32 `yaml:"max"`
	Percentile float32 `yaml:"percentile"`
}

// by returns the range that a method chooses.
func (r LayerRange) by(m Method) float32 {
	switch m {
	case MethodMax:
		return r.Max
	case MethodPercentile:
		return r.Percentile
	}
	return r.LeastError
}

// A Calibration has the ranges of a version's layers, which int8 needs.
type Calibration struct {
	Digest  string                `yaml:"digest"`           // of the graph and the weights; see savedmodel.WeightsDigest
	Pixels  string                `yaml:"pixels,omitempty"` // how images became the model's input; empty: the model takes encoded images
	Records int                   `yaml:"records"`          // that the ranges are of
	Method  Method                `yaml:"method"`
	Layers  map[string]LayerRange `yaml:"layers"` // by the name of the layer
}

// The most that a calibration may hold.
const (
	maxCalibrationBytes = 4 << 20
	maxLayers           = 10_000
)

// Ranges returns the ranges that Method chooses. A layer that has given only zeros has none.
func (c Calibration) Ranges() savedmodel.Ranges {
	ranges := make(savedmodel.Ranges, len(c.Layers))
	for name, r := range c.Layers {
		if end := r.by(c.Method); end > 0 {
			ranges[name] = end
		}
	}
	return ranges
}

// validate returns what is wrong with a calibration.
func (c Calibration) validate() error {
	switch {
	case c.Digest == "":
		return errors.New("digest is missing")
	case !slices.Contains(Methods(), c.Method):
		return fmt.Errorf("method: %q is none of %v", c.Method, Methods())
	case len(c.Layers) > maxLayers:
		return fmt.Errorf("layers: %d are more than %d, the limit", len(c.Layers), maxLayers)
	}
	for name, r := range c.Layers {
		within := func(v float32) bool { return 0 <= v && v <= r.Max } // not NaN
		if math.IsInf(float64(r.Max), 0) || !within(r.Max) || !within(r.Percentile) || !within(r.LeastError) {
			return fmt.Errorf("layers: %s: want numbers of which none is negative, and none is above max", name)
		}
	}
	return nil
}

// checkWeights checks that the ranges are those of the weights of the version in dir.
func (c Calibration) checkWeights(ctx context.Context, dir string) error {
	digest, err := savedmodel.WeightsDigest(ctx, dir)
	if err == nil && digest != c.Digest {
		err = fmt.Errorf("the ranges for int8 were measured with other weights, %s, and these are %s: run \"inceptor quantize\" again", c.Digest, digest)
	}
	return err
}

// checkPixels checks that pixels are made as they were made when the ranges were measured. p is nil
// if the model takes none.
func (c Calibration) checkPixels(p *Preprocessing) error {
	if p == nil || p.input() == c.Pixels {
		return nil
	}
	return fmt.Errorf("the ranges for int8 were measured with another input, %s, and it is %s: run \"inceptor quantize\" again", c.Pixels, p.input())
}

// Encode returns the calibration as a file.
func (c Calibration) Encode() ([]byte, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Ranges of the results of layers, which int8 needs. They belong to the weights with this digest:\n"+
		"# after new weights, or with other pixels, they must be measured again.\n")
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := errors.Join(encoder.Encode(c), encoder.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// DecodeCalibration reads a file that Encode has made. The error says what is wrong with it.
func DecodeCalibration(b []byte) (Calibration, error) {
	var c Calibration
	if len(b) > maxCalibrationBytes {
		return c, fmt.Errorf("%d bytes are more than %d, the limit", len(b), maxCalibrationBytes)
	}
	if err := decodeYAML(b, &c); err != nil {
		return Calibration{}, err
	}
	return c, c.validate()
}

// ReadCalibration reads the CalibrationFile of the version in dir; nil: it has none.
func ReadCalibration(dir string) (*Calibration, error) {
	path := filepath.Join(dir, CalibrationFile)
	b, err := readVersionFile(path, maxCalibrationBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	c, err := DecodeCalibration(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; \"inceptor quantize\" writes it", path, err)
	}
	return &c, nil
}

// WriteCalibration writes the CalibrationFile of the version in dir, all of it or nothing, in place
// of one that there is.
func WriteCalibration(dir string, c Calibration) (path string, err error) {
	path = filepath.Join(dir, CalibrationFile)
	b, err := c.Encode()
	if err != nil {
		return path, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // for everybody to read
		return path, err
	}
	name, err := writeTemporary(filepath.Dir(path), string(b))
	if name != "" {
		defer func() { _ = os.Remove(name) }() // it is not there if it was renamed
	}
	if err != nil {
		return path, err
	}
	return path, os.Rename(name, path)
}
