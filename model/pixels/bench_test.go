package pixels

import (
	"cmp"
	"os"
	"path/filepath"
	"testing"

	"inceptor/savedmodel"
	"inceptor/testenv"
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

func BenchmarkAppend(b *testing.B) {
	photo, err := os.ReadFile(filepath.Join(testenv.Photos(b), "china.jpg"))
	if err != nil {
		b.Fatal(err)
	}
	r := Recipe{Frame: Frame{Height: 299, Width: 299}, AlignCorners: true, Scale: alike(1 / 255.0), DType: savedmodel.Float32}
	to := make([]byte, 0, r.Size())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Append(to, photo, Header{"jpeg", 640, 427}); err != nil {
			b.Fatal(err)
		}
	}
}
