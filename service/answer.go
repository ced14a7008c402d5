package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"time"

	"inceptor/model"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// An Answer is the value of an output record, as JSON.
type Answer struct {
	ID          string  `json:"id"` // topic-partition-offset of the input: a repeat has the same
	Model       string  `json:"model"`
	Version     int64   `json:"version"`
	Digest      string  `json:"digest,omitempty"`         // of the version's directory; a model server does not tell
	Label       string  `json:"label,omitempty"`          // of the version: canary or shadow; none: stable
	Backend     string  `json:"backend"`                  // local or remote
	Server      string  `json:"server,omitempty"`         // that answered remotely
	Reason      string  `json:"reason,omitempty"`         // why it did, in place of a version here
	Wanted      int64   `json:"wanted_version,omitempty"` // that would serve here, where another one has answered
	Predictions []Class `json:"predictions"`              // the best first
	Image       Image   `json:"image"`
	Timings     Timings `json:"timings_ms"`
}

// A Class is one prediction.
type Class struct {
	Label string  `json:"label,omitempty"`
	Index int     `json:"index"`
	Score float32 `json:"score"`
}

// Image says what was classified.
type Image struct {
	Source string `json:"source,omitempty"` // "path:…" or "url:…", if the record named one
	Format string `json:"format"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// Timings are in milliseconds, rounded to the microsecond.
type Timings struct {
	Wait   float64 `json:"wait"` // for others, and for company in a batch
	Decode float64 `json:"decode"`
	Infer  float64 `json:"infer"` // of the whole batch
}

func newAnswer(r stream.Record, image input.Image, p model.Prediction) Answer {
	a := NewAnswer(p)
	a.ID = recordID(r)
	if image.Source != "record" {
		a.Image.Source = image.Source
	}
	return a
}

// NewAnswer is a prediction as it is written to the output topic. What it
// knows of a record, its id above all, is left empty.
func NewAnswer(p model.Prediction) Answer {
	a := Answer{
		Model: p.Model, Version: p.Version, Digest: p.Digest,
		Backend: p.Backend, Server: p.Server, Reason: clip(p.Reason, maxErrorBytes), Wanted: p.Wanted,
		Predictions: make([]Class, len(p.Classes)),
		Image:       Image{Format: p.Image.Format, Width: p.Image.Width, Height: p.Image.Height},
		Timings:     Timings{ms(p.Timings.Wait), ms(p.Timings.Decode), ms(p.Timings.Infer)},
	}
	if p.Label != model.LabelStable {
		a.Label = p.Label
	}
	for i, c := range p.Classes {
		a.Predictions[i] = Class(c)
	}
	return a
}

func ms(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

// JSON is the answer on one line, without a line end.
func (a Answer) JSON() ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(a); err != nil {
		return nil, fmt.Errorf("encode answer %s: %w", a.ID, err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// record is the output record: the input's key, headers and time, and headers
// of our own.
func (a Answer) record(r stream.Record, topic string) (stream.Record, error) {
	value, err := a.JSON()
	if err != nil {
		return stream.Record{}, err
	}
	return stream.Record{
		Topic: topic, Key: r.Key, Value: value, Time: r.Time,
		Headers: append(slices.Clone(r.Headers),
			header(headerID, a.ID),
			header(headerModel, fmt.Sprintf("%s/%d", a.Model, a.Version)),
		),
	}, nil
}

// summary is the answer as a person wants to see it in passing.
func (a Answer) summary() string {
	if len(a.Predictions) == 0 {
		return "no class"
	}
	best := a.Predictions[0]
	name := best.Label
	if name == "" {
		name = fmt.Sprintf("class %d", best.Index)
	}
	return fmt.Sprintf("%s %.4f", name, best.Score)
}

// Headers that inceptor adds; those of the input come before them.
const (
	headerID    = "inceptor-id"    // of answers and dead letters: topic-partition-offset
	headerModel = "inceptor-model" // of answers: name/version

	// Of dead letters.
	headerReason    = "inceptor-reason" // a stable word
	headerError     = "inceptor-error"  // the reason in full
	headerTopic     = "inceptor-topic"  // where the record came from
	headerPartition = "inceptor-partition"
	headerOffset    = "inceptor-offset"
	headerTruncated = "inceptor-truncated" // bytes that the value had, if it is left out
)

func header(key, value string) stream.Header {
	return stream.Header{Key: key, Value: []byte(value)}
}

func recordID(r stream.Record) string {
	return fmt.Sprintf("%s-%d-%d", r.Topic, r.Partition, r.Offset)
}
