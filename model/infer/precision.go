package infer

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"inceptor/savedmodel"
)

// inPrecision opens a version in the session's precision. What it has to show for that:
//
//   - bfloat16: nothing;
//   - int8: ranges of its own layers, and that its gates pass. It need not have golden images.
//
// A version that cannot show it is opened in float32, for no stream should stop for that; with
// NoFallback it is refused.
func (l Loader) inPrecision(ctx context.Context, c contract) (*Version, error) {
	wanted := l.Options.Session.Precision
	if wanted != savedmodel.PrecisionInt8 {
		v, _, err := l.open(ctx, c)
		return v, err
	}
	var why error
	if l.Options.Calibration, why = l.calibration(ctx); why == nil {
		l.Options.Session.Ranges = l.Options.Calibration.Ranges()
		v, precision, err := l.open(ctx, c)
		if err == nil || l.Options.NoFallback || ctx.Err() != nil || precision == savedmodel.PrecisionFloat32 || !precisionMatters(err) || *l.Late != nil {
			return v, err
		}
		why = err
	}
	if err := ctx.Err(); err != nil {
		return nil, AtGate(GateTimeout, err)
	}
	if l.Options.NoFallback {
		return nil, AtGate(GateLoad, why)
	}
	l.tellFloat32(wanted, why.Error())
	l.Options.Session.Precision = savedmodel.PrecisionFloat32
	v, _, err := l.open(ctx, c)
	if err == nil {
		v.whyFloat32 = why.Error()
	}
	return v, err
}

// calibration returns the ranges of the version's layers: Options.Calibration, or else those of its
// own file.
func (l Loader) calibration(ctx context.Context) (*Calibration, error) {
	c := l.Options.Calibration
	if c == nil && l.own != nil {
		return l.own, nil
	}
	if c == nil {
		var err error
		if c, err = ReadCalibration(l.Dir); err != nil {
			return nil, err
		}
	}
	if c == nil {
		return nil, fmt.Errorf("it has no ranges for int8: \"inceptor quantize\" measures them, and writes %s", filepath.Join(l.Dir, CalibrationFile))
	}
	return c, c.checkWeights(ctx, l.Dir)
}

// ownRanges returns the ranges of the version's own file; nil: it has none that can be used. A load
// in int8 tells why.
func (l Loader) ownRanges(ctx context.Context) *Calibration {
	c, err := ReadCalibration(l.Dir)
	if err != nil || c == nil || c.checkWeights(ctx, l.Dir) != nil {
		return nil
	}
	return c
}

// precisionMatters tells whether a version that failed at a gate may pass it in another precision.
func precisionMatters(err error) bool {
	var gate *GateError
	return errors.As(err, &gate) && (gate.Gate == GateWarmUp || gate.Gate == GateGolden || gate.Gate == GateAgreement)
}

func (l Loader) tellFloat32(wanted savedmodel.Precision, why string) {
	l.Log.Info("version does not run in the wanted precision; it runs in float32",
		"model", l.Options.Model, "version", l.Number, "wanted", wanted, "reason", why)
}
