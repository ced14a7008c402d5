package infer

import (
	"context"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// decodeInGo returns a function that decodes images to nearly the same pixels as a decoder,
// without TensorFlow.
func decodeInGo(recipe pixels.Recipe) func(context.Context, []byte, Header) (item, error) {
	return func(_ context.Context, image []byte, h Header) (item, error) {
		plain, err := recipe.Append(nil, image, pixels.Header{Format: h.Format, Width: h.Width, Height: h.Height})
		if err != nil {
			return item{}, &InputError{ReasonUndecodable, err}
		}
		return item{plain: plain}, nil
	}
}

// recipe returns the same preprocessing for package pixels.
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
