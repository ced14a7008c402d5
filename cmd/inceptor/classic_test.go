package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
	"inceptor/service"
	"inceptor/testenv"
)

// TensorFlow Serving's Inception does the whole job: with its own warm-up requests, with its class
// labels in the answers, swapped for a Keras export with the same classes and back, and on a model
// server while no local version can answer.
func TestClassic(t *testing.T) {
	t.Parallel()
	broker := testenv.StartBroker(t)
	createTopics(t, broker.Addr(), 2, nil, inputTopic, outputTopic, deadLetterTopic)
	out := follow(t, broker.Addr(), outputTopic, deadLetterTopic)
	words := classWords()
	said := map[int64]map[string][]testenv.ZooClass{
		1: zooClasses(t, "classic_v3", "classify"),
		2: zooClasses(t, "keras_inception_v3", "default"),
		3: zooClasses(t, "classic_v3", "predict"),
	}
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(said[1])), func(name string) bool { return said[2][name] == nil })
	if len(names) < 3 {
		t.Fatalf("only %q have answers", names)
	}
	sent := 0
	send := func(n int, names ...string) {
		t.Helper()
		for i := range n {
			name := names[i%len(names)]
			content, err := os.ReadFile(filepath.Join(testenv.Zoo(t), "photos", name))
			if err != nil {
				t.Fatal(err)
			}
			produce(t, broker.Addr(), &kgo.Record{Topic: inputTopic, Key: []byte(name), Value: content})
		}
		sent += n
	}

	base := t.TempDir()
	args := runArgs(t, broker.Addr(), "--model.dir", base, "--model.poll", "1s", "--model.quiet", "500ms", "--model.probation.period", "1s",
		"--model.probation.slowdown", "0", "--fallback.timeout", "1m", "--fallback.budget", "2m") // a busy machine is slow now and then
	publishZoo(t, "classic_v3", filepath.Join(base, "1"), map[string][]byte{
		savedmodel.WarmupFile: warmUpRequest(t, "serving_default", filepath.Join(testenv.Zoo(t), "photos", names[0])),
	})
	p := startAtNormalPriority(t, args...)
	serves := func(version int) {
		t.Helper()
		p.await(fmt.Sprintf(`msg="version serving" model=inception version=%d `, version), patience)
		send(len(names), names...)
		out.awaitDistinct(t, sent, patience, outputTopic, deadLetterTopic)
	}
	serves(1)
	send(1, "flower-small.bmp")
	publishZoo(t, "keras_inception_v3", filepath.Join(base, "2"), map[string][]byte{
		"assets/labels.txt": []byte(strings.Join(words, "\n") + "\n"),
	})
	serves(2)
	publishZoo(t, "classic_v3", filepath.Join(base, "3"), map[string][]byte{
		"assets.extra/inceptor.yaml": []byte("signature: predict_images\n"),
	})
	serves(3)
	if code := p.terminate(); code != 0 {
		t.Errorf("SIGTERM: exit status %d", code)
	}

	// Without the library, a model server has the same model.
	served := t.TempDir()
	publishZoo(t, "classic_v3", filepath.Join(served, "3"), nil)
	server := testenv.StartServing(t, "inception", served)
	p = startWithoutLibrary(t, append(args, "--tensorflow.library", filepath.Join(base, "none"),
		"--model.backend", "local-then-remote", "--fallback.address", server.Addr())...)
	p.await("falling back to the model server", patience)
	send(len(names), names...)
	out.awaitDistinct(t, sent, patience, outputTopic, deadLetterTopic)

	dead := out.from(deadLetterTopic)
	if len(dead) != 1 || string(dead[0].Key) != "flower-small.bmp" || lastHeader(dead[0], "inceptor-reason") != "format-not-taken-by-model" {
		t.Errorf("%d dead letters, want flower-small.bmp alone: %v", len(dead), dead)
	}
	by := map[string]int{}
	for _, r := range out.from(outputTopic) {
		var a service.Answer
		if err := json.Unmarshal(r.Value, &a); err != nil {
			t.Fatalf("%s: %v", r.Value, err)
		}
		if a.Version == nil {
			t.Fatalf("%s: no version", r.Value)
		}
		by[fmt.Sprintf("%s %d", a.Backend, *a.Version)]++
		checkClasses(t, a, said[*a.Version][string(r.Key)], words)
	}
	for _, who := range []string{"local 1", "local 2", "local 3", "remote 3"} {
		if by[who] < len(names) {
			t.Errorf("answered by %v, want at least %d by %s", by, len(names), who)
		}
	}
	if answers := out.from(outputTopic); len(answers) != sent-1 {
		t.Errorf("%d answers to %d records", len(answers), sent-1)
	}
	checkFormat(t, out.from(outputTopic))
}

// checkClasses compares an answer with Python TensorFlow's, by the model's own labels or by those
// of labels.txt. The classic's scores are logits, so the tolerance is relative.
func checkClasses(t *testing.T, a service.Answer, want []testenv.ZooClass, words []string) {
	t.Helper()
	if len(a.Predictions) != 5 || len(want) < 5 {
		t.Errorf("%+v: %d predictions, want 5 of %d", a, len(a.Predictions), len(want))
		return
	}
	for i, got := range a.Predictions {
		ownWords := want[i].Label != nil
		var label string
		if ownWords {
			label = *want[i].Label
		} else {
			label = words[*want[i].Index]
		}
		if got.Label != label || (got.Index == nil) != ownWords || math.Abs(float64(got.Score)-want[i].Score) > 1e-4*max(1, math.Abs(want[i].Score)) {
			t.Errorf("%s by version %d: %q %v scores %v, want %q with %v", a.ID, *a.Version, got.Label, got.Index, got.Score, label, want[i].Score)
		}
	}
	if a.Class != a.Predictions[0].Label {
		t.Errorf("%s: class %q, best prediction %q", a.ID, a.Class, a.Predictions[0].Label)
	}
}

// zooClasses returns the answers of a model of the zoo to each photo.
func zooClasses(t *testing.T, model, reading string) map[string][]testenv.ZooClass {
	t.Helper()
	said := map[string][]testenv.ZooClass{}
	for _, a := range testenv.ZooAnswers(t, model)[reading] {
		if a.Error == "" {
			said[filepath.Base(a.File)] = a.Classes
		}
	}
	return said
}

// classWords returns the labels of the classic's classes, in their order: see testenv/zoo.
func classWords() []string {
	words := []string{"unused background"}
	for i := 1; i <= 1000; i++ {
		words = append(words, fmt.Sprintf("class %04d, also called thing %d", i, i))
	}
	return words
}

// publishZoo publishes a model of the zoo as a version, with further files.
func publishZoo(t *testing.T, model, dir string, more map[string][]byte) {
	t.Helper()
	staging := filepath.Join(filepath.Dir(dir), ".staging")
	if err := os.CopyFS(staging, os.DirFS(filepath.Join(testenv.Zoo(t), model, "1"))); err != nil {
		t.Fatal(err)
	}
	for name, content := range more {
		file := filepath.Join(staging, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(staging, dir); err != nil {
		t.Fatal(err)
	}
}

// warmUpRequest returns a tf_serving_warmup_requests with one classify request: the image in a
// tf.Example.
func warmUpRequest(t *testing.T, signature, image string) []byte {
	t.Helper()
	content, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	field := func(number protowire.Number, content []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
	}
	// Example.features.feature: an entry with key and value.bytes_list.value.
	entry := append(field(1, []byte("image/encoded")), field(2, field(1, field(1, content)))...)
	log, err := proto.Marshal(&tfpb.PredictionLog{LogType: &tfpb.PredictionLog_ClassifyLog{ClassifyLog: &tfpb.ClassifyLog{
		Request: &tfpb.ClassificationRequest{
			ModelSpec: &tfpb.ModelSpec{Name: "inception", SignatureName: signature},
			Input: &tfpb.Input{Kind: &tfpb.Input_ExampleList{ExampleList: &tfpb.ExampleList{
				Examples: [][]byte{field(1, field(1, entry))},
			}}},
		},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	sum := func(b []byte) uint32 {
		c := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
		return (c>>15 | c<<17) + 0xa282ead8
	}
	record := binary.LittleEndian.AppendUint64(nil, uint64(len(log)))
	record = binary.LittleEndian.AppendUint32(record, sum(record))
	record = append(record, log...)
	return binary.LittleEndian.AppendUint32(record, sum(log))
}
