//go:build !race

package model

import (
	"math"
	"path/filepath"
	"slices"
	"sort"
	"testing"

	"inceptor/model/infer"
	"inceptor/testenv"
)

// How much scores may differ from the exact ones, as docs/models.md says: for most photos, and
// for two with two likely classes, a cell under a microscope and the inside of an eye. The
// label may change where the best two scores were that close.
const (
	fastScores     = 0.04
	fastUndecided  = 0.12
	fastCloseLabel = 0.04
)

// Fast decoding gives nearly the same scores as exact decoding: for twenty photos, whole and in
// part, large enough for ratios of 2 and 4, in three qualities.
func TestFastDecode(t *testing.T) {
	exact := testConfig(testenv.Model(t))
	fast := exact
	fast.Decode = decodeFast
	models := []*Manager{open(t, exact), open(t, fast)}
	var differences []float64
	changed := 0
	for _, file := range testenv.Originals(t) {
		for _, s := range []testenv.Shot{
			{File: file, Side: 1200, Quality: 70}, {File: file, Middle: true, Side: 1200, Quality: 70},
			{File: file, Side: 1200, Quality: 92}, {File: file, Middle: true, Side: 1200, Quality: 92},
			{File: file, Side: 2400, Quality: 85}, {File: file, Middle: true, Side: 2400, Quality: 85},
		} {
			var answers [2]infer.Prediction
			picture := s.JPEG(t)
			for i, m := range models {
				var err error
				if answers[i], err = m.Classify(t.Context(), nil, picture); err != nil {
					t.Fatalf("%+v: %v", s, err)
				}
			}
			best := answers[0].Classes
			if same, _ := answers[0].Agrees(answers[1]); !same {
				changed++
				t.Logf("%+v: %v, exactly %v and %v", s, answers[1].Classes[0], best[0], best[1])
				if best[0].Score-best[1].Score > fastCloseLabel {
					t.Errorf("%+v: another label", s)
				}
			}
			most := 0.0
			for _, a := range answers[0].Classes {
				for _, b := range answers[1].Classes {
					if a.Index == b.Index {
						most = max(most, math.Abs(float64(a.Score-b.Score)))
					}
				}
			}
			limit := fastScores
			if name := filepath.Base(file); name == "cell.png" || name == "retina.jpg" {
				limit = fastUndecided
			}
			if most > limit || most == 0 {
				t.Errorf("%+v: scores differ by %v, want at most %v", s, most, limit)
			}
			if most > 0.02 {
				t.Logf("%+v: %.4f", s, most)
			}
			differences = append(differences, most)
		}
	}
	slices.Sort(differences)
	n := len(differences)
	above := n - sort.SearchFloat64s(differences, 0.02)
	t.Logf("%d pictures: scores differ by %.5f in the median, %.4f at most, by more than 0.02 in %d; %d labels are others",
		n, differences[n/2], differences[n-1], above, changed)
}
