package thumbnail

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"inceptor/model/infer"
	"inceptor/service/page"
	"inceptor/service/stream"
)

var (
	red  = color.RGBA{R: 255, A: 255}
	blue = color.RGBA{B: 255, A: 255}
)

// picture is red on the left and blue on the right.
func picture(width, height int) *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			m.SetRGBA(x, y, red)
			if x >= width/2 {
				m.SetRGBA(x, y, blue)
			}
		}
	}
	return m
}

func encoded(t *testing.T, format string, m image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	var err error
	switch format {
	case "jpeg":
		err = jpeg.Encode(&b, m, nil)
	case "png":
		err = png.Encode(&b, m)
	case "gif":
		err = gif.Encode(&b, m, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// exif puts an EXIF orientation into a JPEG.
func exif(b []byte, orientation byte) []byte {
	segment := []byte("\xff\xe1\x00\x22Exif\x00\x00MM\x00\x2a\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00" + string(orientation) + "\x00\x00\x00\x00\x00\x00")
	return append(append(b[:2:2], segment...), b[2:]...)
}

// A thumbnail is small, upright, on white, and never larger than the image.
func TestMake(t *testing.T) {
	transparent := image.NewRGBA(image.Rect(0, 0, 200, 200))
	white := color.RGBA{255, 255, 255, 255}
	for _, test := range []struct {
		name, format string
		content      []byte
		size, want   image.Point
		first, last  color.RGBA // at the upper left and the lower right
	}{
		{"wide", "jpeg", encoded(t, "jpeg", picture(640, 320)), image.Pt(640, 320), image.Pt(160, 80), red, blue},
		{"high", "png", encoded(t, "png", picture(100, 400)), image.Pt(100, 400), image.Pt(40, 160), red, blue},
		{"small", "png", encoded(t, "png", picture(16, 8)), image.Pt(16, 8), image.Pt(16, 8), red, blue},
		{"a line", "png", encoded(t, "png", picture(3000, 2)), image.Pt(3000, 2), image.Pt(160, 1), red, blue},
		{"GIF", "gif", encoded(t, "gif", picture(320, 320)), image.Pt(320, 320), image.Pt(160, 160), red, blue},
		{"turned by its EXIF", "jpeg", exif(encoded(t, "jpeg", picture(640, 320)), 6), image.Pt(640, 320), image.Pt(80, 160), red, blue},
		{"mirrored by its EXIF", "jpeg", exif(encoded(t, "jpeg", picture(640, 320)), 2), image.Pt(640, 320), image.Pt(160, 80), blue, red},
		{"transparent", "png", encoded(t, "png", transparent), image.Pt(200, 200), image.Pt(160, 160), white, white},
	} {
		t.Run(test.name, func(t *testing.T) {
			b, err := Make(test.content, infer.Header{Format: test.format, Width: test.size.X, Height: test.size.Y})
			if err != nil {
				t.Fatal(err)
			}
			got, err := jpeg.Decode(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			if size := got.Bounds().Size(); size != test.want {
				t.Fatalf("size %v, want %v", size, test.want)
			}
			for at, want := range map[image.Point]color.RGBA{{}: test.first, test.want.Sub(image.Pt(1, 1)): test.last} {
				r, g, b, _ := got.At(at.X, at.Y).RGBA()
				far := func(a uint32, b uint8) bool { return max(int(a>>8), int(b))-min(int(a>>8), int(b)) > 40 }
				if far(r, want.R) || far(g, want.G) || far(b, want.B) {
					t.Errorf("at %v: %v, want %v", at, got.At(at.X, at.Y), want)
				}
			}
		})
	}
}

// An image whose decode takes much memory has no thumbnail; a camera's photo has one.
func TestMakeBoundsMemory(t *testing.T) {
	baseline := encoded(t, "jpeg", picture(64, 64))
	progressive := bytes.Replace(baseline, []byte{0xff, 0xc0}, []byte{0xff, 0xc2}, 1)
	for _, test := range []struct {
		name    string
		content []byte
		side    int
		refused bool
	}{
		{"a photo", exif(baseline, 6), 3500, false},
		{"a progressive JPEG", progressive, 2400, false},
		{"a large progressive JPEG", progressive, 3500, true},
	} {
		_, err := Make(test.content, infer.Header{Format: "jpeg", Width: test.side, Height: test.side})
		if err == nil || strings.Contains(err.Error(), "MiB") != test.refused { // all lie about their size
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// A damaged image has no thumbnail, and a header that lies allocates nothing large.
func TestMakeRefuses(t *testing.T) {
	good := encoded(t, "jpeg", picture(64, 64))
	for _, test := range []struct {
		name    string
		content []byte
		header  infer.Header
	}{
		{"empty", nil, infer.Header{Format: "jpeg", Width: 64, Height: 64}},
		{"cut", good[:len(good)/2], infer.Header{Format: "jpeg", Width: 64, Height: 64}},
		{"another size than its header's", good, infer.Header{Format: "jpeg", Width: 8, Height: 8}},
		{"another format", good, infer.Header{Format: "png", Width: 64, Height: 64}},
		{"unknown format", good, infer.Header{Format: "tiff", Width: 64, Height: 64}},
	} {
		if b, err := Make(test.content, test.header); err == nil {
			t.Errorf("%s: a thumbnail of %d bytes", test.name, len(b))
		}
	}
}

func record(i int) stream.Record { return stream.Record{Topic: "in", Offset: int64(i)} }

// Nothing is copied or made while nobody watches, of what is too large, or while the Maker works or
// rests.
func TestOffer(t *testing.T) {
	content := encoded(t, "png", picture(64, 64))
	header := infer.Header{Format: "png", Width: 64, Height: 64}
	synctest.Test(t, func(t *testing.T) {
		var none *Maker
		none.Watch(true)
		if _, ok := none.Get("in-0-0"); ok || none.Offer(record(0), content, header) {
			t.Error("a nil Maker makes thumbnails")
		}
		none.Close()

		m := New(func() time.Duration { return 0 }, slog.New(slog.DiscardHandler))
		defer m.Close()
		for i := range firstImages {
			if !m.Offer(record(1000+i), content, header) {
				t.Errorf("image %d is not taken", i)
			}
		}
		synctest.Wait()
		if !m.Has("in-0-1000") || !m.Has(record(1000+firstImages-1).ID()) {
			t.Error("the first images have no thumbnails")
		}
		offer := func(want bool, why string, content []byte, h infer.Header) {
			t.Helper()
			if got := m.Offer(record(1), content, h); got != want {
				t.Errorf("%s: taken is %v, want %v", why, got, want)
			}
		}
		offer(false, "nobody watches", content, header)
		m.Watch(true)
		offer(false, "no image", content, infer.Header{})
		offer(false, "too many pixels", content, infer.Header{Format: "png", Width: 5000, Height: 5000})
		offer(false, "too many bytes", make([]byte, maxBytes+1), header)
		own := bytes.Clone(content)
		offer(true, "it is free", own, header)
		clear(own) // the caller may use its memory again
		offer(false, "one is being made", content, header)
		synctest.Wait()
		if b, ok := m.Get("in-0-1"); !ok || len(b) == 0 || !m.Has("in-0-1") {
			t.Error("there is no thumbnail")
		}
		offer(true, "it has rested", content, header) // synctest's clock stands still while it works
		m.Watch(false)
		time.Sleep(time.Hour)
		offer(false, "nobody watches any more", content, header)
	})
}

// Only the latest are kept.
func TestKept(t *testing.T) {
	m := &Maker{made: map[string]made{}}
	for i := range 2 * kept {
		m.keep(job{id: fmt.Sprint(i)}, []byte{byte(i)})
		m.keep(job{id: fmt.Sprint(i)}, []byte{byte(i)}) // a record that comes again
	}
	if len(m.made) != kept || len(m.order) != kept || !m.Has(fmt.Sprint(2*kept-1)) || m.Has(fmt.Sprint(kept-1)) {
		t.Errorf("%d are kept: %v", len(m.made), m.order)
	}
	if kept < page.MaxPictures {
		t.Errorf("%d are kept, and %d shown", kept, page.MaxPictures)
	}
}

// After a topic was created anew, no record gets the picture of an old one, not even one that was
// being made.
func TestForget(t *testing.T) {
	gone, other := stream.Partition{Topic: "in", ID: 0}, stream.Partition{Topic: "in", ID: 1}
	m := &Maker{made: map[string]made{}}
	m.keep(job{id: "in-0-1", partition: gone}, []byte{1})
	m.keep(job{id: "in-1-1", partition: other}, []byte{1})
	m.Forget(gone)
	m.keep(job{id: "in-0-2", partition: gone}, []byte{1}) // offered before
	if m.Has("in-0-1") || m.Has("in-0-2") || !m.Has("in-1-1") || len(m.order) != 1 {
		t.Errorf("kept: %v", m.order)
	}
	m.keep(job{id: "in-0-1", partition: gone, forgotten: 1}, []byte{1})
	if !m.Has("in-0-1") {
		t.Error("the new record has no thumbnail")
	}
	(*Maker)(nil).Forget(gone)
}

// On a busy machine, thumbnails take three thousandths of it.
func TestPause(t *testing.T) {
	for _, test := range []struct {
		name       string
		ran, since time.Duration
		processors int
		want       time.Duration // after a thumbnail that took 10 ms
	}{
		{"idle", time.Second, 10 * time.Second, 2, 30 * time.Millisecond},
		{"busy", 16 * time.Second, 10 * time.Second, 2, 4990 * time.Millisecond},
		{"busy, one processor", 9 * time.Second, 10 * time.Second, 1, 9990 * time.Millisecond},
		{"busy, many processors", 9 * time.Second, 10 * time.Second, 16, 615 * time.Millisecond},
		{"no run", 0, time.Second, 2, 30 * time.Millisecond},
	} {
		if got := pause(10*time.Millisecond, test.ran, test.since, test.processors).Round(time.Millisecond); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func BenchmarkMake(b *testing.B) {
	var buffer bytes.Buffer
	if err := jpeg.Encode(&buffer, picture(1024, 768), nil); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Make(buffer.Bytes(), infer.Header{Format: "jpeg", Width: 1024, Height: 768}); err != nil {
			b.Fatal(err)
		}
	}
}
