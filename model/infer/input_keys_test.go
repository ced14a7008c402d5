package infer

import (
	"math"
	"testing"

	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel/tfpb"
)

// Each key of inceptor.yaml's input changes the model's answer as it should, for a picture of
// 8×4 with a left half of one colour and a right half of another.
func TestInputKeys(t *testing.T) {
	picture := drawing{width: 8, height: 4, channel: func(x, _, c int) byte { return [2][3]byte{{200, 100, 50}, {40, 20, 10}}[x/4][c] }}.encode("png")
	for name, test := range map[string]struct {
		yaml  string
		dtype tfpb.DataType // 0: float32
		want  [3]float64    // means of the channels
	}{
		"as it is":                       {"input: {scale: 1}", 0, [3]float64{120, 60, 30}},
		"bgr":                            {"input: {channels: bgr, scale: 1}", 0, [3]float64{30, 60, 120}},
		"bgr, bytes":                     {"input: {channels: bgr}", tfpb.DataType_DT_UINT8, [3]float64{30, 60, 120}},
		"mean and std":                   {"input: {mean: [100, 60, 10], std: [2, 1, 4]}", 0, [3]float64{10, 0, 5}},
		"bgr, mean first of blue":        {"input: {channels: bgr, mean: [10, 60, 100]}", 0, [3]float64{20, 0, 20}},
		"scale, mean, std":               {"input: {scale: 1/255, mean: 0.5, std: 0.5}", 0, [3]float64{120/127.5 - 1, 60/127.5 - 1, 30/127.5 - 1}},
		"scale and offset":               {"input: {scale: [1, 2, 3], offset: [0, 0, 1]}", 0, [3]float64{120, 120, 91}},
		"padded":                         {"input: {fit: pad, scale: 1}", 0, [3]float64{60, 30, 15}},
		"padded, with the offset around": {"input: {fit: pad, offset: 1}", 0, [3]float64{61, 31, 16}},
		"cropped to the aspect ratio":    {"input: {fit: crop, scale: 1}", 0, [3]float64{120, 60, 30}},
		"the middle":                     {"input: {crop: 0.25, resize: nearest, scale: 1}", 0, [3]float64{120, 60, 30}},
		"bicubic, bytes":                 {"input: {resize: bicubic}", tfpb.DataType_DT_UINT8, [3]float64{120, 60, 30}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			modeltest.Means{Dtype: test.dtype}.Write(t, dir, test.yaml)
			p, err := load(t, dir).Classify(t.Context(), picture)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range p.Classes {
				if want := test.want[c.Index]; math.Abs(float64(c.Score)-want) > 1e-4 {
					t.Errorf("channel %d is %v, want %v", c.Index, c.Score, want)
				}
			}
		})
	}
}
