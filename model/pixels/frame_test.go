package pixels_test

import (
	"image"
	"testing"

	"inceptor/model/pixels"
)

// TestPlace compares with the results of Python's tf.image.central_crop,
// tf.image.resize_with_pad and keras.utils.smart_resize for pictures of these sizes.
func TestPlace(t *testing.T) {
	for name, test := range map[string]struct {
		frame         pixels.Frame
		width, height int
		from, to      image.Rectangle
	}{
		"all":                  {pixels.Frame{Height: 2, Width: 3}, 7, 5, image.Rect(0, 0, 7, 5), image.Rect(0, 0, 3, 2)},
		"slim's crop":          {pixels.Frame{Crop: 0.875, Height: 2, Width: 3}, 100, 50, image.Rect(6, 3, 94, 47), image.Rect(0, 0, 3, 2)},
		"crop, one pixel":      {pixels.Frame{Crop: 0.1, Height: 2, Width: 3}, 1, 1, image.Rect(0, 0, 1, 1), image.Rect(0, 0, 3, 2)},
		"crop of nothing":      {pixels.Frame{Crop: 1e-18, Height: 2, Width: 3}, 4, 5, image.Rect(1, 2, 3, 3), image.Rect(0, 0, 3, 2)},
		"pad, wide":            {pixels.Frame{Fit: pixels.Pad, Height: 10, Width: 10}, 20, 10, image.Rect(0, 0, 20, 10), image.Rect(0, 2, 10, 7)},
		"pad, high":            {pixels.Frame{Fit: pixels.Pad, Height: 10, Width: 10}, 10, 20, image.Rect(0, 0, 10, 20), image.Rect(2, 0, 7, 10)},
		"pad, a line":          {pixels.Frame{Fit: pixels.Pad, Height: 10, Width: 10}, 100, 1, image.Rect(0, 0, 100, 1), image.Rect(0, 4, 10, 5)},
		"smart, wide":          {pixels.Frame{Fit: pixels.Crop, Height: 10, Width: 10}, 21, 10, image.Rect(5, 0, 15, 10), image.Rect(0, 0, 10, 10)},
		"smart, high":          {pixels.Frame{Fit: pixels.Crop, Height: 2, Width: 3}, 9, 9, image.Rect(0, 1, 9, 7), image.Rect(0, 0, 3, 2)},
		"smart, a line":        {pixels.Frame{Fit: pixels.Crop, Height: 1, Width: 100}, 50, 50, image.Rect(0, 24, 50, 25), image.Rect(0, 0, 100, 1)},
		"crop, then smart":     {pixels.Frame{Crop: 0.5, Fit: pixels.Crop, Height: 4, Width: 4}, 40, 20, image.Rect(15, 5, 25, 15), image.Rect(0, 0, 4, 4)},
		"crop, then pad, wide": {pixels.Frame{Crop: 0.5, Fit: pixels.Pad, Height: 4, Width: 4}, 40, 20, image.Rect(10, 5, 30, 15), image.Rect(0, 1, 4, 3)},
	} {
		got := test.frame.Place(test.width, test.height)
		if got.From != test.from || got.To != test.to {
			t.Errorf("%s: %v, want from %v to %v", name, got, test.from, test.to)
		}
	}
}
