package pixels

import (
	"cmp"
	"testing"

	"inceptor/savedmodel"
)

// BenchmarkResize makes the input of a decoded picture.
func BenchmarkResize(b *testing.B) {
	p, err := rgb(scene(640, 427))
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range []Recipe{
		{}, {Resize: Nearest}, {Resize: Bicubic}, {Resize: Area}, {Layout: ChannelsFirst}, {Channels: Gray}, {DType: savedmodel.UInt8}, {DType: savedmodel.Float16},
	} {
		r.Frame, r.Scale, r.Offset, r.DType = Frame{Height: 299, Width: 299}, alike(1/127.5), alike(-1), cmp.Or(r.DType, savedmodel.Float32)
		b.Run(r.Resize+string(r.Layout)+string(r.Channels)+r.DType.String(), func(b *testing.B) {
			to := make([]byte, r.Size())
			for b.Loop() {
				r.input(to, p)
			}
		})
	}
}
