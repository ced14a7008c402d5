package page

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
)

// charts is what page.js draws. All slices are as long as At; a gap is null.
type charts struct {
	At          []int64             `json:"at"` // Unix seconds
	Records     []number            `json:"records"`
	P50         []number            `json:"p50"`
	P99         []number            `json:"p99"`
	Lag         []number            `json:"lag"`
	Batch       []number            `json:"batch"`
	DeadLetters map[string][]number `json:"dead_letters"` // by reason
	Marks       []mark              `json:"marks"`
}

// A mark is a moment at which the version that answers changed.
type mark struct {
	At   int64  `json:"at"` // Unix seconds
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// A number is drawn; one that is not finite is a gap.
type number float64

// MarshalJSON returns at most four digits that count: a picture shows no more.
func (n number) MarshalJSON() ([]byte, error) {
	if f := float64(n); math.IsNaN(f) || math.IsInf(f, 0) {
		return []byte("null"), nil
	}
	f, err := strconv.ParseFloat(strconv.FormatFloat(float64(n), 'g', 4, 64), 64)
	if err != nil {
		return nil, err
	}
	return strconv.AppendFloat(nil, f, 'f', -1, 64), nil
}

// chartsOf returns what is drawn of the samples, as JSON.
func chartsOf(samples []Sample, view View) []byte {
	gap := number(math.NaN())
	orGap := func(f float64, known bool) number {
		if !known {
			return gap
		}
		return number(f)
	}
	c := charts{At: []int64{}, DeadLetters: map[string][]number{}, Marks: []mark{}}
	for i, s := range samples {
		c.At = append(c.At, s.At.Unix())
		c.Records = append(c.Records, number(s.Records))
		c.P50 = append(c.P50, orGap(s.P50, s.P50 > 0))
		c.P99 = append(c.P99, orGap(s.P99, s.P99 > 0))
		c.Lag = append(c.Lag, orGap(float64(s.Lag), s.Lag >= 0))
		c.Batch = append(c.Batch, orGap(s.Batch, s.Batch > 0))
		for _, reason := range slices.Sorted(maps.Keys(s.DeadLetters)) {
			if c.DeadLetters[reason] == nil {
				c.DeadLetters[reason] = make([]number, len(samples))
			}
			c.DeadLetters[reason][i] = number(s.DeadLetters[reason])
		}
	}
	for _, e := range view.Timeline {
		if len(samples) == 0 || e.At.Before(samples[0].At) {
			continue
		}
		c.Marks = append(c.Marks, mark{e.At.Unix(), e.Kind, e.Text})
	}
	data, err := json.Marshal(c)
	if err != nil { // numbers and strings
		panic(err)
	}
	return data
}
