package model

import (
	"context"
	"errors"

	"inceptor/savedmodel"
)

// The values of Config.Precision, besides float32.
const (
	precisionBFloat16 = "bfloat16"
	precisionAuto     = "auto"
)

// inPrecision opens a version in what model.precision says. With auto that is
// bfloat16 only if the version passes its gates so and has golden images,
// whose labels and floors bind both precisions alike.
func (l loader) inPrecision(ctx context.Context, seen look) (*version, error) {
	if l.config.Precision != precisionAuto {
		v, _, err := l.open(ctx, seen)
		return v, err
	}
	images, err := readGolden(l.at.dir) // the gate will tell
	why := "it has no golden images to try bfloat16 on"
	if err == nil && len(images) > 0 {
		v, precision, err := l.open(ctx, seen)
		if err == nil || ctx.Err() != nil || precision == savedmodel.PrecisionFloat32 || !precisionMatters(err) || *l.late != nil {
			return v, err
		}
		why = err.Error()
	}
	l.tellFloat32(why)
	l.config.Session.Precision = savedmodel.PrecisionFloat32
	v, _, err := l.open(ctx, seen)
	return v, err
}

// precisionMatters tells whether a version may pass the gate that refused it in
// another precision.
func precisionMatters(err error) bool {
	var gate *GateError
	return errors.As(err, &gate) && (gate.Gate == GateWarmUp || gate.Gate == GateGolden || gate.Gate == GateAgreement)
}

func (l loader) tellFloat32(why string) {
	l.log.Info("not in bfloat16", "model", l.config.Name, "version", l.at.number, "reason", why)
}
