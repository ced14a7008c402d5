package service

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"sync"
	"time"

	"inceptor/model"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// An Answer is the value of an output record, as JSON.
type Answer struct {
	ID      string `json:"id"` // topic-partition-offset of the input: a repeat has the same
	Model   string `json:"model"`
	Version int64  `json:"version"`                  // 0, too, where a model server does not tell
	Digest  string `json:"digest,omitempty"`         // of the version's directory; a model server does not tell
	Label   string `json:"label,omitempty"`          // of the version: canary or shadow; none: stable
	Backend string `json:"backend"`                  // local or remote
	Server  string `json:"server,omitempty"`         // that answered remotely
	Reason  string `json:"reason,omitempty"`         // why it did, in place of a version here
	Wanted  *int64 `json:"wanted_version,omitempty"` // that would serve here, where another one has answered

	// Predictions are the best classes, the best first. Scores are all that the
	// model gave, of what is no image: there, only versions with labels have
	// predictions.
	Predictions []model.Class `json:"predictions,omitempty"`
	Scores      []float32     `json:"scores,omitempty"`

	Image   Image   `json:"image,omitzero"`
	Timings Timings `json:"timings_ms"`
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

// NewAnswer is a prediction as it is written to the output topic. What it
// knows of a record, its id above all, is left empty.
func NewAnswer(p model.Prediction) Answer {
	a := Answer{
		Model: p.Model, Version: max(p.Version, 0), Digest: p.Digest,
		Backend: p.Backend, Server: p.Server, Reason: clip(p.Reason, maxErrorBytes), Wanted: p.Wanted,
		Predictions: p.Classes, Scores: p.Scores,
		Image:   Image{Format: p.Image.Format, Width: p.Image.Width, Height: p.Image.Height},
		Timings: Timings{ms(p.Timings.Wait), ms(p.Timings.Decode), ms(p.Timings.Infer)},
	}
	if p.Label != model.LabelStable {
		a.Label = p.Label
	}
	return a
}

func ms(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

// JSON is the answer on one line, without a line end.
func (a Answer) JSON() ([]byte, error) {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	b, err := e.encode(a)
	return bytes.Clone(b), err
}

// An encoder is what is used again from answer to answer.
type encoder struct {
	answer Answer
	buffer bytes.Buffer
	json   *json.Encoder
}

var encoders = sync.Pool{New: func() any {
	e := &encoder{}
	e.json = json.NewEncoder(&e.buffer)
	e.json.SetEscapeHTML(false)
	return e
}}

// encode returns what is valid until the next call.
func (e *encoder) encode(a Answer) ([]byte, error) {
	e.buffer.Reset()
	e.answer = a
	defer func() { e.answer = Answer{} }()
	if err := e.json.Encode(&e.answer); err != nil {
		return nil, fmt.Errorf("encode answer %s: %w", a.ID, err)
	}
	return bytes.TrimSuffix(e.buffer.Bytes(), []byte("\n")), nil
}

// idAt is where the id stands in an answer's JSON.
const idAt = len(`{"id":"`)

// outputs is an output record with its headers, in one piece.
type outputs struct {
	records [1]stream.Record
	headers [6]stream.Header
}

// answerRecord is the answer to a record: with its key, headers and time, and
// headers of our own.
func answerRecord(r stream.Record, image input.Image, p model.Prediction, topic string) ([]stream.Record, error) {
	e := encoders.Get().(*encoder)
	defer encoders.Put(e)
	a := NewAnswer(p)
	if image.Source != "record" {
		a.Image.Source = image.Source
	}
	text, err := e.encode(a)
	if err != nil {
		return nil, err
	}
	// One piece of memory for the answer, whose id is put in here, since that
	// needs no escaping, and for the last header.
	b := make([]byte, 0, len(text)+len(r.Topic)+len(p.Model)+3*len("/9223372036854775807"))
	b = append(b, text[:idAt]...)
	b = appendRecordID(b, r)
	id := len(b)
	b = append(b, text[idAt:]...)
	value := len(b)
	b = append(append(b, p.Model...), '/')
	b = strconv.AppendInt(b, a.Version, 10)

	out := &outputs{}
	out.records[0] = stream.Record{
		Topic: topic, Key: r.Key, Value: b[:value:value], Time: r.Time,
		Headers: append(append(out.headers[:0], r.Headers...),
			stream.Header{Key: headerID, Value: b[idAt:id:id]},
			stream.Header{Key: headerModel, Value: b[value:]},
		),
	}
	return out.records[:], nil
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

	// Of dead letters for a whole batch.
	headerLastOffset = "inceptor-last-offset"

	// Of dead letters that the topic did not take whole.
	headerTruncated        = "inceptor-truncated"         // bytes that the value had, which is left out
	headerTruncatedHeaders = "inceptor-truncated-headers" // bytes of the headers that the sender had set, which are left out
	headerTruncatedKey     = "inceptor-truncated-key"     // bytes that the key had, of which at most minKeyBytes are left
)

func header(key, value string) stream.Header {
	return stream.Header{Key: key, Value: []byte(value)}
}

func recordID(r stream.Record) string {
	return string(appendRecordID(make([]byte, 0, 64), r))
}

func appendRecordID(b []byte, r stream.Record) []byte {
	b = append(b, r.Topic...)
	b = strconv.AppendInt(append(b, '-'), int64(r.Partition), 10)
	return strconv.AppendInt(append(b, '-'), r.Offset, 10)
}
