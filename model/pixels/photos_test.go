//go:build !race

package pixels

import (
	"bytes"
	"image/jpeg"
	"math"
	"path/filepath"
	"slices"
	"sort"
	"testing"

	"inceptor/savedmodel"
	"inceptor/testenv"
)

// How much Inception's scores of a JPEG may differ from those after TensorFlow's decoding: for
// most photos, and for a cell under a microscope, which has two likely classes.
const (
	photoScores = 0.04
	cellScores  = 0.1
)

// TestPhotos measures how much pixels and scores differ from those of TensorFlow's decoding,
// for twenty photos, whole and in part, in four qualities, some enlarged.
func TestPhotos(t *testing.T) {
	tf := openTensorFlow(t)
	inception, err := savedmodel.Load(t.Context(), filepath.Join(testenv.Model(t), "1"), savedmodel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer inception.Close()
	r := Recipe{Frame: Frame{Height: 299, Width: 299}, AlignCorners: true, Scale: alike(1 / 255.0), DType: savedmodel.Float32}
	var scores, means []float64
	worst := 0
	for _, file := range testenv.Originals(t) {
		for _, s := range []testenv.Shot{
			{File: file, Quality: 50}, {File: file, Quality: 75}, {File: file, Quality: 92}, {File: file, Quality: 98},
			{File: file, Middle: true, Quality: 50}, {File: file, Middle: true, Quality: 75}, {File: file, Middle: true, Quality: 92},
			{File: file, Middle: true, Side: 1200, Quality: 92},
		} {
			b := s.JPEG(t)
			c, err := jpeg.DecodeConfig(bytes.NewReader(b))
			if err != nil {
				t.Fatal(err)
			}
			h := Header{"jpeg", c.Width, c.Height}
			want, ok := tf.picture(b)
			got, err := View{}.picture(b, h)
			if !ok || err != nil {
				t.Fatalf("%+v: TensorFlow takes it: %v; here: %v", s, ok, err)
			}
			mean, most, _ := difference(got.pix, want.pix)
			if mean > jpegMean || most > jpegMost {
				t.Errorf("%+v: pixels differ by %.3f on the mean, by %d in one place", s, mean, most)
			}
			input, err := r.Append(nil, b, h)
			if err != nil {
				t.Fatal(err)
			}
			here, there := run(t, inception, input), run(t, inception, tf.input(want, r))
			largest := 0.0
			for i := range here {
				largest = max(largest, math.Abs(float64(here[i]-there[i])))
			}
			limit := photoScores
			if filepath.Base(file) == "cell.png" {
				limit = cellScores
			}
			if !(largest <= limit) {
				t.Errorf("%+v: scores differ by %v, want at most %v", s, largest, limit)
			}
			if largest > 0.02 {
				t.Logf("%+v: %.4f", s, largest)
			}
			scores, means, worst = append(scores, largest), append(means, mean), max(worst, most)
		}
	}
	slices.Sort(scores)
	n := len(scores)
	t.Logf("%d pictures: pixels differ by %.2f to %.2f on the mean, by %d in one place at most", n, slices.Min(means), slices.Max(means), worst)
	t.Logf("scores differ by %.5f in the median, by more than 0.02 in %d, by %.4f at most",
		scores[n/2], n-sort.SearchFloat64s(scores, 0.02), scores[n-1])
}
