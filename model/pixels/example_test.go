package pixels_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"

	"inceptor/model/pixels"
	"inceptor/savedmodel"
)

// Two pixels become one, halfway between them.
func Example() {
	img := image.NewNRGBA(image.Rect(0, 0, 2, 1))
	img.Set(0, 0, color.NRGBA{R: 255, A: 255})
	img.Set(1, 0, color.NRGBA{B: 255, A: 255})
	var encoded bytes.Buffer
	if err := png.Encode(&encoded, img); err != nil {
		panic(err)
	}
	recipe := pixels.Recipe{
		Frame:            pixels.Frame{Height: 1, Width: 1},
		HalfPixelCenters: true,
		Scale:            [3]float32{2, 2, 2},
		Offset:           [3]float32{-1, -1, -1},
		DType:            savedmodel.UInt8,
	}
	input, err := recipe.Append(nil, encoded.Bytes(), pixels.Header{Format: "png", Width: 2, Height: 1})
	if err != nil {
		panic(err)
	}
	fmt.Println(input[0], input[1], input[2])
	// Output: 254 255 254
}
