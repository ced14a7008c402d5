package service

import (
	"bytes"
	"encoding/json"
	"strconv"
	"sync"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"inceptor/internal/clip"
	"inceptor/model/infer"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// An Answer is the value of an output record, for readers of the topic: format 2,
// as docs/schemas/answer.schema.json describes it. Every key is always there.
// Where its value is null, a string is empty, and a pointer, slice or map nil.
type Answer struct {
	ID             string  `json:"id"` // topic-partition-offset of the input; the same in a repeated answer
	Model          string  `json:"model"`
	Version        *int64  `json:"version"`         // null if a model server does not report it
	VersionLabel   string  `json:"version_label"`   // stable, canary or shadow; null from a model server
	Digest         string  `json:"digest"`          // of the version's directory; null from a model server
	Precision      string  `json:"precision"`       // float32, bfloat16 or int8; null from a model server
	Backend        string  `json:"backend"`         // local or remote
	Server         string  `json:"server"`          // the model server that answered
	FallbackReason string  `json:"fallback_reason"` // why the model server answered, and no version here
	WantedVersion  *int64  `json:"wanted_version"`  // the version that should have answered, if another did
	Class          string  `json:"class"`           // of the best prediction
	Score          float32 `json:"score"`           // of the best prediction; 0 where it is null

	// Predictions are the best classes, the best first. Outputs are the values of a
	// model without classes, and the outputs that inceptor.yaml lists, by their key in
	// the signature: each a list, which may hold lists, or one value. At least one of
	// the two is not null.
	Predictions []Class                    `json:"predictions"`
	Outputs     map[string]json.RawMessage `json:"outputs"`

	Image   *Image  `json:"image"` // null if the record is no image
	Timings Timings `json:"timings_ms"`
}

// A Class is one of an answer's predictions.
type Class struct {
	Label string  `json:"label"` // null where the version has no labels
	Index *int    `json:"index"` // null where the model brings its own class words
	Score float32 `json:"score"`
}

// String is infer.Class's.
func (c Class) String() string {
	m := infer.Class{Label: c.Label, Index: -1, Score: c.Score}
	if c.Index != nil {
		m.Index = *c.Index
	}
	return m.String()
}

// An Image describes the image that was classified.
type Image struct {
	Source string `json:"source"` // "path:…" or "url:…"; null where the record held the image
	Format string `json:"format"`
	Width  int    `json:"width"`
	Height int    `json:"height"`
}

// Timings are in milliseconds, rounded to the microsecond.
type Timings struct {
	Wait   float64 `json:"wait"` // for other records, and for the batch to fill
	Decode float64 `json:"decode"`
	Infer  float64 `json:"infer"` // of the whole batch
}

// AppendAnswer appends to b the value of an output record: one line of JSON,
// without a line end. The id is the record's.
func AppendAnswer(b []byte, id string, p *infer.Prediction) []byte {
	b = appendString(append(b, `{"id":`...), id)
	return appendPrediction(b, p, "")
}

// appendPrediction appends what follows the id. Source says where the image came
// from; empty: it was in the record.
func appendPrediction(b []byte, p *infer.Prediction, source string) []byte {
	b = appendString(append(b, `,"model":`...), p.Model)
	b = append(b, `,"version":`...)
	if p.Version >= 0 {
		b = strconv.AppendInt(b, p.Version, 10)
	} else { // remote.NoVersion
		b = append(b, null...)
	}
	b = appendText(append(b, `,"version_label":`...), p.Label)
	b = appendText(append(b, `,"digest":`...), p.Digest)
	b = appendText(append(b, `,"precision":`...), p.Precision)
	b = appendString(append(b, `,"backend":`...), p.Backend)
	b = appendText(append(b, `,"server":`...), p.Server)
	b = appendText(append(b, `,"fallback_reason":`...), clip.Text(p.Reason, maxErrorBytes))
	b = append(b, `,"wanted_version":`...)
	if p.Wanted != nil {
		b = strconv.AppendInt(b, *p.Wanted, 10)
	} else {
		b = append(b, null...)
	}
	b = appendClasses(b, p.Classes)
	b = appendOutputs(append(b, `,"outputs":`...), p)
	b = appendImage(append(b, `,"image":`...), p.Image, source)
	b = appendMilliseconds(append(b, `,"timings_ms":{"wait":`...), p.Timings.Wait)
	b = appendMilliseconds(append(b, `,"decode":`...), p.Timings.Decode)
	b = appendMilliseconds(append(b, `,"infer":`...), p.Timings.Infer)
	return append(b, "}}"...)
}

// shortAnswer appends an answer without its arrays, for the page: they may be large.
func shortAnswer(b []byte, source stream.Record, p infer.Prediction) []byte {
	p.Output, p.Outputs = "", nil
	b = append(source.AppendID(append(b, `{"id":"`...)), '"')
	return appendPrediction(b, &p, "")
}

const null = "null"

func appendClasses(b []byte, classes []infer.Class) []byte {
	if len(classes) == 0 {
		return append(b, `,"class":null,"score":null,"predictions":null`...)
	}
	b = appendLabel(append(b, `,"class":`...), classes[0])
	b = appendScore(append(b, `,"score":`...), classes[0].Score)
	b = append(b, `,"predictions":[`...)
	for i, c := range classes {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendLabel(append(b, `{"label":`...), c)
		b = append(b, `,"index":`...)
		if c.Index >= 0 {
			b = strconv.AppendInt(b, int64(c.Index), 10)
		} else {
			b = append(b, null...)
		}
		b = append(appendScore(append(b, `,"score":`...), c.Score), '}')
	}
	return append(b, ']')
}

// maxLabelBytes bounds a label in an answer: a model may return any string.
const maxLabelBytes = 1024

// appendLabel appends a class' label. A label that the model returns may be empty.
func appendLabel(b []byte, c infer.Class) []byte {
	label := clip.Text(c.Label, maxLabelBytes)
	if c.Index < 0 {
		return appendString(b, label)
	}
	return appendText(b, label)
}

func appendImage(b []byte, image infer.Header, source string) []byte {
	if image.Format == "" {
		return append(b, null...)
	}
	b = appendText(append(b, `{"source":`...), source)
	b = appendString(append(b, `,"format":`...), image.Format)
	b = strconv.AppendInt(append(b, `,"width":`...), int64(image.Width), 10)
	b = strconv.AppendInt(append(b, `,"height":`...), int64(image.Height), 10)
	return append(b, '}')
}

// appendText appends a string, or null if it is empty.
func appendText(b []byte, s string) []byte {
	if s == "" {
		return append(b, null...)
	}
	return appendString(b, s)
}

func appendString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // invalid UTF-8 becomes U+FFFD
	return b
}

// scoreDigits is how many digits a score has after the point, at most.
const scoreDigits = 7

// appendScore appends a finite score as a decimal. From 1 on, the shortest one
// that reads back as the same float32 never has more than scoreDigits digits
// after the point.
func appendScore(b []byte, score float32) []byte {
	digits := -1
	if -1 < score && score < 1 {
		digits = scoreDigits
	}
	return appendDecimal(b, float64(score), digits, 32)
}

func appendMilliseconds(b []byte, d time.Duration) []byte {
	return appendDecimal(b, float64(d)/float64(time.Millisecond), 3, 64)
}

// appendDecimal appends v without an exponent. It has at least one digit after the
// point, so that readers that infer a column's type see no integers, and no
// trailing zeros after that.
func appendDecimal(b []byte, v float64, digits, bits int) []byte {
	start := len(b)
	b = strconv.AppendFloat(b, v, 'f', digits, bits)
	point := bytes.IndexByte(b[start:], '.')
	if point < 0 {
		return append(b, ".0"...)
	}
	least := start + point + len(".0")
	for len(b) > least && b[len(b)-1] == '0' {
		b = b[:len(b)-1]
	}
	if string(b[start:]) == "-0.0" {
		b = append(b[:start], "0.0"...)
	}
	return b
}

// format is the value of headerFormat.
var format = []byte("2")

// outputs is an output record with its headers, in one allocation.
type outputs struct {
	records [1]stream.Record
	headers [7]stream.Header
}

// scratch holds the buffers in which answers are built.
var scratch = sync.Pool{New: func() any { return new([]byte) }}

// answerRecord returns the answer to a record: with the record's key, headers and
// time, and the service's own headers.
func answerRecord(r stream.Record, image input.Image, p infer.Prediction, topic string) []stream.Record {
	source := image.Source
	if source == "record" {
		source = ""
	}
	buffer := scratch.Get().(*[]byte)
	b := (*buffer)[:0]
	b = append(b, `{"id":"`...)
	id := len(b)
	b = r.AppendID(b) // needs no escaping
	idEnd := len(b)
	b = appendPrediction(append(b, '"'), &p, source)
	value := len(b)
	b = append(b, p.Model...)
	if p.Version >= 0 {
		b = strconv.AppendInt(append(b, '/'), p.Version, 10)
	}
	whole := bytes.Clone(b) // one allocation for the value and the headers
	*buffer = b
	scratch.Put(buffer)

	out := &outputs{}
	out.records[0] = stream.Record{
		Topic: topic, Key: r.Key, Value: whole[:value:value], Time: r.Time,
		Headers: append(append(out.headers[:0], r.Headers...),
			stream.Header{Key: headerFormat, Value: format},
			stream.Header{Key: headerID, Value: whole[id:idEnd:idEnd]},
			stream.Header{Key: headerModel, Value: whole[value:]},
		),
	}
	return out.records[:]
}

// Headers that inceptor adds, after those of the input.
const (
	headerID = "inceptor-id" // of answers and dead letters: topic-partition-offset

	// Of answers.
	headerFormat = "inceptor-format" // of the value: 2
	headerModel  = "inceptor-model"  // name/version; the name alone if a model server does not report its version

	// Of dead letters.
	headerReason    = "inceptor-reason" // a stable word
	headerError     = "inceptor-error"  // the reason in full
	headerTopic     = "inceptor-topic"  // the record's origin
	headerPartition = "inceptor-partition"
	headerOffset    = "inceptor-offset"

	// Of dead letters for a whole batch.
	headerLastOffset = "inceptor-last-offset"

	// Of dead letters in a compacted topic, for records without a key.
	headerAddedKey = "inceptor-added-key" // true: the key is the value of headerID

	// Of dead letters that the topic did not take whole.
	headerTruncated        = "inceptor-truncated"         // size of the value, which was removed
	headerTruncatedHeaders = "inceptor-truncated-headers" // size of the sender's headers, which were removed
	headerTruncatedKey     = "inceptor-truncated-key"     // size of the key, of which at most minKeyBytes are left
)

func header(key, value string) stream.Header {
	return stream.Header{Key: key, Value: []byte(value)}
}
