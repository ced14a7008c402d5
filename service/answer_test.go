package service

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"inceptor/internal/clip"
	"inceptor/internal/settings"
	"inceptor/model"
	"inceptor/model/infer"
	"inceptor/model/remote"
	"inceptor/savedmodel"
	"inceptor/service/input"
	"inceptor/service/stream"
)

// answering gives one answer.
type answering struct {
	fakeModel
	p infer.Prediction
}

func (a answering) Classify(context.Context, []byte, []byte) (infer.Prediction, error) {
	return a.p, nil
}

func (a answering) ClassifyAs(_ context.Context, label string, _ []byte) (infer.Prediction, error) {
	a.p.Label = label
	return a.p, nil
}

const digest = "sha256:d156fa0a7ba1d6ee8a1fd6bd4a4f3a8ecbb8f58c9a2d18d5c4d0a1e5a0b1c2d3"

// localAnswer is what a version here says of itself, remoteAnswer what is known of a
// model server.
var (
	localAnswer  = infer.Prediction{Info: infer.Info{Model: "inception", Version: 3, Digest: digest}, Backend: infer.BackendLocal, Label: model.LabelStable, Precision: "float32"}
	remoteAnswer = infer.Prediction{Info: infer.Info{Model: "inception", Version: 2}, Backend: infer.BackendRemote, Server: "10.1.2.3:8500"}
	photo        = infer.Header{Format: "jpeg", Width: 640, Height: 480}
	cats         = []infer.Class{{Label: "Egyptian cat", Index: 285, Score: 0.9997}, {Label: "tabby", Index: 281, Score: 0.0003}}
	took         = infer.Timings{Wait: 1200 * time.Microsecond, Decode: 3*time.Millisecond + 400*time.Nanosecond, Infer: 104 * time.Millisecond}
)

// with is p with changes.
func with(p infer.Prediction, change func(*infer.Prediction)) infer.Prediction {
	change(&p)
	return p
}

const (
	localJSON  = `"digest":"` + digest + `","precision":"float32","backend":"local","server":null,"fallback_reason":null,"wanted_version":null`
	remoteJSON = `"version_label":null,"digest":null,"precision":null,"backend":"remote","server":"10.1.2.3:8500"`
	catsJSON   = `"class":"Egyptian cat","score":0.9997,"predictions":[{"label":"Egyptian cat","index":285,"score":0.9997},{"label":"tabby","index":281,"score":0.0003}],"outputs":null`
	photoJSON  = `"image":{"source":null,"format":"jpeg","width":640,"height":480}`
	tookJSON   = `"timings_ms":{"wait":1.2,"decode":3.0,"infer":104.0}`
)

// arrays have every kind of elements and shapes.
var arrays = []infer.Array{
	array("boxes", savedmodel.Float32, savedmodel.Shape{2, 2}, float32(0.5), float32(-1), float32(0.25), float32(1e5)),
	array("count", savedmodel.Int64, nil, int64(math.MinInt64)),
	array("large", savedmodel.UInt64, savedmodel.Shape{1}, uint64(math.MaxUint64)),
	array("bytes", savedmodel.UInt8, savedmodel.Shape{2, 1}, uint8(0), uint8(255)),
	array("small", savedmodel.Int8, nil, int8(-128)),
	array("half", savedmodel.Float16, savedmodel.Shape{2}, uint16(0x3c00), uint16(0x2e66)),
	array("brain", savedmodel.BFloat16, nil, uint16(0x3dcd)),
	array("double", savedmodel.Float64, savedmodel.Shape{5}, 1e-17, 0.1, -1.0/3, 1e22, 123456.000000001),
	array("is", savedmodel.Bool, savedmodel.Shape{2}, true, false),
	array("none", savedmodel.Float32, savedmodel.Shape{2, 0}),
	{Key: "a \"word\"", Array: savedmodel.Array{DType: savedmodel.String, Shape: savedmodel.Shape{1, 2}, Strings: [][]byte{[]byte("é\n"), []byte("\xff\x00")}}},
}

const arraysJSON = `"outputs":{"boxes":[[0.5,-1.0],[0.25,100000.0]],"count":-9223372036854775808,"large":[18446744073709551615],"bytes":[[0],[255]],"small":-128,` +
	`"half":[1.0,0.0999756],"brain":0.1000977,"double":[0.0,0.1,-0.3333333333333333,10000000000000000000000.0,123456.000000001],"is":[true,false],"none":[[],[]],` +
	`"a \"word\"":[["é\n","` + "\uFFFD" + `\u0000"]]}`

func array(key string, d savedmodel.DataType, shape savedmodel.Shape, elements ...any) infer.Array {
	a := infer.Array{Key: key, Array: savedmodel.Array{DType: d, Shape: shape}}
	for _, e := range elements {
		a.Bytes, _ = binary.Append(a.Bytes, binary.NativeEndian, e)
	}
	return a
}

// answers are all kinds of answers that there are: what the model says, and
// what is written after the id and the model.
func answers(image infer.Prediction) []answerKind {
	three, zero := int64(3), int64(0)
	return []answerKind{
		{name: "image", p: image,
			want: `"version":3,"version_label":"stable",` + localJSON + `,` + catsJSON + `,` + photoJSON},
		{name: "image by path", p: image, source: "path:cat.jpg",
			want: `"version":3,"version_label":"stable",` + localJSON + `,` + catsJSON + `,"image":{"source":"path:cat.jpg","format":"jpeg","width":640,"height":480}`},
		{name: "canary in bfloat16", p: with(image, func(p *infer.Prediction) { p.Label, p.Precision = model.LabelCanary, "bfloat16" }),
			want: `"version":3,"version_label":"canary",` + strings.Replace(localJSON, "float32", "bfloat16", 1) + `,` + catsJSON + `,` + photoJSON},
		{name: "shadow", p: image, shadow: true,
			want: `"version":3,"version_label":"shadow",` + localJSON + `,` + catsJSON + `,` + photoJSON},
		{name: "version 0, no labels", p: with(image, func(p *infer.Prediction) { p.Version, p.Classes = 0, []infer.Class{{Index: 0, Score: 1}} }),
			want: `"version":0,"version_label":"stable",` + localJSON + `,"class":null,"score":1.0,"predictions":[{"label":null,"index":0,"score":1.0}],"outputs":null,` + photoJSON},
		{name: "the model's own words", p: with(image, func(p *infer.Prediction) {
			p.Classes = []infer.Class{{Label: "a \"cat\"\n<&>\xff", Index: -1, Score: 9.5}, {Index: -1, Score: -0.25}}
		}),
			want: `"version":3,"version_label":"stable",` + localJSON + `,"class":"a \"cat\"\n<&>` + "\uFFFD" + `","score":9.5,` +
				`"predictions":[{"label":"a \"cat\"\n<&>` + "\uFFFD" + `","index":null,"score":9.5},{"label":"","index":null,"score":-0.25}],"outputs":null,` + photoJSON},
		{name: "row with labels", p: with(localAnswer, func(p *infer.Prediction) { p.Classes = cats }),
			want: `"version":3,"version_label":"stable",` + localJSON + `,` + catsJSON + `,"image":null`},
		{name: "row", p: with(localAnswer, func(p *infer.Prediction) { p.Output, p.Scores = "price", []float32{105.5, -2, 1e-9, 1e9} }),
			want: `"version":3,"version_label":"stable",` + localJSON + `,"class":null,"score":null,"predictions":null,"outputs":{"price":[105.5,-2.0,0.0,1000000000.0]},"image":null`},
		{name: "tf.Example without values", p: with(localAnswer, func(p *infer.Prediction) { p.Output = "scores" }),
			want: `"version":3,"version_label":"stable",` + localJSON + `,"class":null,"score":null,"predictions":null,"outputs":{"scores":[]},"image":null`},
		{name: "arrays alone", p: with(image, func(p *infer.Prediction) { p.Classes, p.Outputs = nil, arrays }),
			want: `"version":3,"version_label":"stable",` + localJSON + `,"class":null,"score":null,"predictions":null,` + arraysJSON + `,` + photoJSON},
		{name: "predictions and arrays", p: with(image, func(p *infer.Prediction) { p.Outputs = arrays }),
			want: `"version":3,"version_label":"stable",` + localJSON + `,` + strings.Replace(catsJSON, `"outputs":null`, arraysJSON, 1) + `,` + photoJSON},
		{name: "a row's scores and arrays", p: with(localAnswer, func(p *infer.Prediction) { p.Output, p.Scores, p.Outputs = "price", []float32{1}, arrays[:1] }),
			want: `"version":3,"version_label":"stable",` + localJSON + `,"class":null,"score":null,"predictions":null,"outputs":{"price":[1.0],"boxes":[[0.5,-1.0],[0.25,100000.0]]},"image":null`},
		{name: "a row's scores as an array", p: with(localAnswer, func(p *infer.Prediction) { p.Scores, p.Outputs = []float32{1}, arrays[:1] }),
			want: `"version":3,"version_label":"stable",` + localJSON + `,"class":null,"score":null,"predictions":null,"outputs":{"boxes":[[0.5,-1.0],[0.25,100000.0]]},"image":null`},
		{name: "model server alone", p: with(remoteAnswer, func(p *infer.Prediction) { p.Classes, p.Image = cats, photo }),
			want: `"version":2,` + remoteJSON + `,"fallback_reason":null,"wanted_version":null,` + catsJSON + `,` + photoJSON},
		{name: "fallback, version not told", p: with(remoteAnswer, func(p *infer.Prediction) {
			p.Version, p.Reason, p.Wanted, p.Classes, p.Image = remote.NoVersion, "no version is serving", &zero, cats, photo
		}),
			want: `"version":null,` + remoteJSON + `,"fallback_reason":"no version is serving","wanted_version":0,` + catsJSON + `,` + photoJSON},
		{name: "fallback, another version, a row", p: with(remoteAnswer, func(p *infer.Prediction) {
			p.Reason, p.Wanted, p.Output, p.Scores = strings.Repeat("x", 5000), &three, "scores", []float32{0.25}
		}),
			want: `"version":2,` + remoteJSON + `,"fallback_reason":"` + strings.Repeat("x", maxErrorBytes) + `…","wanted_version":3,` +
				`"class":null,"score":null,"predictions":null,"outputs":{"scores":[0.25]},"image":null`},
	}
}

type answerKind struct {
	name   string
	p      infer.Prediction
	source string // of the image; empty: the record
	shadow bool
	want   string
}

// of is the output record of this kind, made by the handler or the comparer.
func (k answerKind) of(t *testing.T) stream.Record {
	t.Helper()
	h := newHandler(t, answering{p: k.p})
	in, config := record(png), settings.Default[input.Config]()
	if path, ok := strings.CutPrefix(k.source, "path:"); ok {
		config.Files.Root = t.TempDir()
		if err := os.WriteFile(filepath.Join(config.Files.Root, path), png, 0o600); err != nil {
			t.Fatal(err)
		}
		in.Value = fmt.Appendf(nil, `{"path":%q}`, path)
	} else if k.p.Image.Format == "" {
		config.Format, in.Value = input.TensorJSON, []byte("[1]")
	}
	reader, err := input.New(config)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	h.input = reader
	if k.shadow {
		var out stream.Record
		publish := func(_ context.Context, r stream.Record) error { out = r; return nil }
		c := &comparer{model: h.classifier.(secondVersion), publish: publish, count: func(string, string) {}, log: slog.New(slog.DiscardHandler)}
		c.compare(t.Context(), comparison{record: in, image: input.Image{Bytes: in.Value, Source: "record"}, given: k.p, ask: model.LabelShadow})
		return out
	}
	out, err := h.handle(t.Context(), in)
	if err != nil || len(out) != 1 || out[0].Topic != "out" {
		t.Fatalf("got %+v, %v", out, err)
	}
	return out[0]
}

func kinds() []answerKind {
	image := localAnswer
	image.Classes, image.Image = cats, photo
	all := answers(image)
	for i := range all {
		all[i].p.Timings = took
	}
	return all
}

// Every kind of answer has every key, in the same order.
func TestAnswerKinds(t *testing.T) {
	for _, kind := range kinds() {
		t.Run(kind.name, func(t *testing.T) {
			r := kind.of(t)
			want := `{"id":"in-2-4711","model":"inception",` + kind.want + `,` + tookJSON + `}`
			if diff := cmp.Diff(want, string(r.Value)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			name := "inception/" + strconv.FormatInt(kind.p.Version, 10)
			if kind.p.Version < 0 {
				name = "inception"
			}
			headers := map[string]string{}
			for _, h := range r.Headers {
				headers[h.Key] = string(h.Value)
			}
			if headers[headerFormat] != "2" || headers[headerID] != "in-2-4711" || headers[headerModel] != name {
				t.Errorf("headers: got %v, want %s", headers, name)
			}
		})
	}
}

// Answer is what a reader in Go sees of each kind: every key has a field, and
// each field a key.
func TestAnswerRead(t *testing.T) {
	for _, kind := range kinds() {
		p, value := kind.p, kind.of(t).Value
		var a Answer
		d := json.NewDecoder(bytes.NewReader(value))
		d.DisallowUnknownFields()
		if err := d.Decode(&a); err != nil {
			t.Errorf("%s: %v", kind.name, err)
			continue
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(value, &keys); err != nil {
			t.Fatal(err)
		}
		for f := range reflect.TypeFor[Answer]().Fields() {
			if _, ok := keys[f.Tag.Get("json")]; !ok {
				t.Errorf("%s: no key for %s", kind.name, f.Name)
			}
		}
		if told := a.Version != nil; told != (p.Version >= 0) || told && *a.Version != p.Version {
			t.Errorf("%s: version %v", kind.name, a.Version)
		}
		if len(a.Predictions) != len(p.Classes) || (a.Outputs != nil) != (p.Output != "" || p.Outputs != nil) || (a.Image != nil) != (p.Image.Format != "") {
			t.Errorf("%s: got %+v", kind.name, a)
		}
		for i, c := range a.Predictions {
			if want := strings.ToValidUTF8(p.Classes[i].String(), "\uFFFD"); c.String() != want {
				t.Errorf("%s: class %d is %s, want %s", kind.name, i, c, want)
			}
		}
	}
}

// What classify prints is what the service writes, with the file's name as id.
func TestAppendAnswer(t *testing.T) {
	p := kinds()[0].p
	got := string(AppendAnswer([]byte("- "), "a \"file\".jpg", &p))
	if want := `- {"id":"a \"file\".jpg","model":"inception",` + kinds()[0].want + `,` + tookJSON + `}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestScore(t *testing.T) {
	for _, test := range []struct {
		score float32
		want  string
	}{
		{0, "0.0"}, {1, "1.0"}, {-1, "-1.0"}, {0.5, "0.5"}, {0.1, "0.1"}, {0.9997, "0.9997"},
		{0.014678868, "0.0146789"},
		{4.9e-8, "0.0"}, {0.00000006, "0.0000001"}, {1e-8, "0.0"}, {1e-45, "0.0"}, {0.99999994, "0.9999999"},
		{float32(math.Copysign(0, -1)), "0.0"}, {-1e-8, "0.0"}, {-0.25, "-0.25"},
		{1.0000001, "1.0000001"}, {12.3, "12.3"}, {-105.5, "-105.5"}, {16777216, "16777216.0"},
		{1e20, "100000000000000000000.0"}, {math.MaxFloat32, "340282350000000000000000000000000000000.0"},
	} {
		if got := string(appendScore(nil, test.score)); got != test.want {
			t.Errorf("%g: got %s, want %s", test.score, got, test.want)
		}
	}
}

// Whatever a model gives as words and scores, the answer is one line of valid JSON
// in UTF-8, of bounded length, that reads back as the same words.
func TestAnswerWords(t *testing.T) {
	p := kinds()[0].p
	answer := func(words ...string) []byte {
		p.Classes = nil
		for _, word := range words {
			p.Classes = append(p.Classes, infer.Class{Label: word, Index: -1, Score: math.MaxFloat32})
		}
		return AppendAnswer(nil, "in-0-0", &p)
	}
	check := func(t rapid.TB, words ...string) {
		value := answer(words...)
		if v := jsontext.Value(value); !v.IsValid() || !utf8.Valid(value) || bytes.ContainsAny(value, "\r\n") {
			t.Fatalf("not one line of JSON: %q", value)
		}
		var a Answer
		if err := json.Unmarshal(value, &a); err != nil {
			t.Fatal(err)
		}
		for i, word := range words {
			if got, want := a.Predictions[i].Label, clip.Text(word, 1024); got != want {
				t.Errorf("%q: got %q, want %q", word, got, want)
			}
		}
	}
	for _, word := range []string{
		"", `"`, `\`, `a "cat", of sorts`, "a\nb\r\tc", "\x00\x1f\x7f", "\xff\xfe", "Katze 🐈 é", "\u2028\u2029", "<script>&", "\xed\xa0\x80", "null",
	} {
		check(t, word)
	}
	rapid.Check(t, func(t *rapid.T) {
		check(t, string(rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "word")), rapid.String().Draw(t, "other"))
	})
	long := strings.Repeat("\x01é", 1<<20)
	check(t, long)
	if n := len(answer(long, long, long, long, long)); n > 32<<10 {
		t.Errorf("%d bytes, of words that are too long", n)
	}
}

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)\.([0-9]|[0-9]{1,6}[1-9])$`)

// Every score is a decimal with at most seven digits after the point, and
// reads back as near as these tell.
func TestScoreProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		score := math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
		if math.IsNaN(float64(score)) || math.IsInf(float64(score), 0) {
			score = rapid.Float32Range(-20, 20).Draw(t, "score")
		}
		text := string(appendScore(nil, score))
		back, err := strconv.ParseFloat(text, 64)
		if err != nil || !decimal.MatchString(text) || text == "-0.0" {
			t.Fatalf("%g is written %s", score, text)
		}
		if far := math.Abs(back - float64(score)); far > 0.50001e-7 && float32(back) != score {
			t.Fatalf("%g is written %s, which is %g off", score, text, far)
		}
	})
}
