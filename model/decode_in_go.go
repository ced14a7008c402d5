package model

import (
	"context"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// decodeInGo does what a decoder does, without TensorFlow and nearly the same.
func decodeInGo(recipe pixels.Recipe) func(context.Context, []byte, Header) (item, error) {
	return func(_ context.Context, image []byte, h Header) (item, error) {
		plain, err := recipe.Append(nil, image, pixels.Header{Format: h.Format, Width: h.Width, Height: h.Height})
		if err != nil {
			return item{}, &InputError{ReasonUndecodable, err}
		}
		return item{plain: plain}, nil
	}
}

// recipe is the same preprocessing in Go.
func (p Preprocessing) recipe(dtype savedmodel.DataType) pixels.Recipe {
	r := pixels.Recipe{
		View: p.view, Frame: p.frame(),
		Resize: p.Resize, AlignCorners: p.AlignCorners, HalfPixelCenters: p.HalfPixelCenters,
		Channels: p.Channels, Layout: p.Layout, DType: dtype,
	}
	for i := range p.Scale {
		r.Scale[i], r.Offset[i] = float32(p.Scale[i]), float32(p.Offset[i])
	}
	return r
}
