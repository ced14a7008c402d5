// Package pagetest has a page.Source whose state a test sets.
package pagetest

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/jpeg"
	"math"
	"slices"
	"sync"
	"time"

	"inceptor/service/page"
)

// A Source is a page.Source of a service that answers a stream of pictures, until a test changes
// what it tells. Safe for concurrent use.
type Source struct {
	first page.View     // set once, by New
	older []page.Record // than those in the view, for their pictures; set once, by New

	mu      sync.Mutex // guards what follows
	view    page.View
	samples []page.Sample
	watched []bool
	views   int
}

// New returns a source of a service under load, as of a moment.
func New(now time.Time) *Source {
	s := &Source{view: page.View{
		Now: now, Up: 83 * time.Minute, Name: "inceptor", Version: "v1.9.0",
		Inputs: []string{"ImageInputTopic"}, Output: "ImageOutputTopic", DeadLetter: "ImageInputTopic.dead",
		Ready: true, Model: "inception version 2 (sha256:9f2c41d07b1e)", Thumbnails: true,
		Versions: []page.Version{
			{Number: 2, Label: "stable", State: "serving", Precision: "int8", Bytes: 92 << 20, Since: now.Add(-41 * time.Minute),
				WhyPrecision: "1.9 times as fast as float32, with the same class for 99.3% of 300 records", Digest: "sha256:9f2c41d07b1e55aa02"},
			{Number: 1, State: "closed", Bytes: 92 << 20, Digest: "sha256:11aa22bb33cc44dd", CanUse: true},
		},
		Timeline: []page.Event{
			{At: now.Add(-38 * time.Minute), Version: 2, Kind: page.EventPrecision, Text: "runs in int8"},
			{At: now.Add(-41 * time.Minute), Version: 2, Kind: page.EventServing, Text: "serves, in place of version 1"},
			{At: now.Add(-83 * time.Minute), Version: 1, Kind: page.EventServing, Text: "serves"},
		},
		Memory: page.Memory{Resident: 812 << 20, Limit: 4 << 30, Model: 118 << 20, Go: 41 << 20, Library: 653 << 20},
	}}
	for i := range 4 {
		s.view.Partitions = append(s.view.Partitions, page.Partition{Topic: "ImageInputTopic", Number: i, Lag: int64(i * 7), InFlight: 4 + i})
	}
	for i := range page.MaxRecords {
		s.view.Records = append(s.view.Records, record(now, i))
	}
	for i := range page.MaxPictures {
		s.older = append(s.older, record(now, page.MaxRecords+i))
	}
	for i := range 180 {
		s.samples = append(s.samples, sample(now, i))
	}
	s.view.Pictures = s.pictures(s.view.Records)
	s.first = s.view
	return s
}

var labels = []string{"neutral", "drawing", "sexy", "porn", "hentai"}

func record(now time.Time, i int) page.Record {
	offset := 48_211 - i
	r := page.Record{
		ID: fmt.Sprintf("ImageInputTopic-%d-%d", offset%4, offset), At: now.Add(-time.Duration(i) * 90 * time.Millisecond),
		Key: fmt.Sprintf("camera-%d", offset%5), State: page.StatePublished, Took: 40 + float64(offset%30), Version: 2, Thumbnail: true,
	}
	score := 0.55 + 0.44*math.Abs(math.Sin(float64(offset)))
	first := offset % 3 % 2
	r.Classes = []page.Class{
		{Label: labels[first], Score: score}, {Label: labels[1-first], Score: (1 - score) * 0.8}, {Label: labels[2], Score: (1 - score) * 0.2},
	}
	switch {
	case i < 4:
		r.State = page.StateAnswered
	case offset%19 == 0:
		r.State, r.Reason, r.Classes, r.Thumbnail = page.StateDeadLetter, "undecodable-image", nil, false
		r.Detail = "decode image: the JPEG ends after 1,204 of its bytes"
	}
	return r
}

func sample(now time.Time, i int) page.Sample {
	x := float64(i)
	s := page.Sample{
		At: now.Add(time.Duration(i-179) * page.SampleEvery), Records: 11 + 3*math.Sin(x/14) + math.Sin(x*1.7), P50: 52 + 9*math.Sin(x/14+1),
		P99: 95 + 20*math.Sin(x/14+1) + 6*math.Sin(x*2.3), Lag: int64(max(20*math.Sin(x/9), 0)), Batch: 3.1 + math.Sin(x/14), DeadLetters: map[string]float64{},
	}
	if i%17 == 0 {
		s.DeadLetters["undecodable-image"] = 0.4
	}
	if i%41 == 0 {
		s.DeadLetters["too-large"] = 0.2
	}
	return s
}

func (s *Source) pictures(records []page.Record) []page.Record {
	with := slices.DeleteFunc(slices.Concat(records, s.older), func(r page.Record) bool { return !r.Thumbnail })
	return with[:min(len(with), page.MaxPictures)]
}

// Change changes what the source tells.
func (s *Source) Change(change func(*page.View)) {
	s.mu.Lock()
	v := s.view
	s.mu.Unlock()
	s.show(v, change)
}

// Show changes what the source told at first, whatever it has told since.
func (s *Source) Show(change func(*page.View)) { s.show(s.first, change) }

func (s *Source) show(v page.View, change func(*page.View)) {
	v.Records, v.Versions, v.Timeline = slices.Clone(v.Records), slices.Clone(v.Versions), slices.Clone(v.Timeline)
	v.Partitions = slices.Clone(v.Partitions)
	change(&v)
	v.Pictures = s.pictures(v.Records)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view = v
}

// Forget makes the history empty, as at the start.
func (s *Source) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = nil
}

// AddSample adds a sample to the history.
func (s *Source) AddSample(sample page.Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.samples = append(slices.Clone(s.samples), sample)
}

// Calls returns what Watched has been told, and how often View was called.
func (s *Source) Calls() (watched []bool, views int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.watched), s.views
}

// View implements page.Source.
func (s *Source) View() page.View {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.views++
	return s.view
}

// Samples implements page.Source.
func (s *Source) Samples() []page.Sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.samples
}

// Detail implements page.Source.
func (s *Source) Detail(id string) (page.Detail, bool) {
	r, ok := s.record(id)
	return page.Detail{
		Record:  r,
		Answer:  fmt.Sprintf("{\n  \"id\": %q,\n  \"class\": \"neutral\",\n  \"score\": 0.9812\n}", id),
		Headers: []page.Header{{Name: "inceptor-format", Value: "2"}, {Name: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}},
		Timings: []page.Timing{{Name: "wait", Milliseconds: 3.1}, {Name: "decode", Milliseconds: 8.4}, {Name: "infer", Milliseconds: 41}},
		Kcat:    "kcat -b 127.0.0.1:9092 -C -t ImageInputTopic -p 2 -o 48211 -c 1 -e",
	}, ok
}

// Thumbnail implements page.Source.
func (s *Source) Thumbnail(id string) ([]byte, bool) {
	r, ok := s.record(id)
	if !ok || !r.Thumbnail {
		return nil, false
	}
	seed := 0
	for _, b := range []byte(id) {
		seed = seed*31 + int(b)
	}
	picture := image.NewRGBA(image.Rect(0, 0, page.ThumbnailSide, 120))
	for x := range page.ThumbnailSide {
		for y := range 120 {
			picture.Set(x, y, color.RGBA{uint8(seed + x), uint8(seed>>3 + y), uint8(seed>>6 + x/2 + y/2), 255}) //nolint:gosec // any colour will do
		}
	}
	var b bytes.Buffer
	if err := jpeg.Encode(&b, picture, nil); err != nil {
		panic(err)
	}
	return b.Bytes(), true
}

func (s *Source) record(id string) (page.Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range slices.Concat(s.view.Records, s.older) {
		if r.ID == id {
			return r, true
		}
	}
	return page.Record{}, false
}

// Watched implements page.Source.
func (s *Source) Watched(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watched = append(s.watched, on)
}
