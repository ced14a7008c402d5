package service

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"inceptor/service/input"
	"inceptor/service/stream"
	"inceptor/service/stream/embedded"
	"inceptor/testenv"
)

// The readers in docs/reading.md read an answer of each kind. The first answer comes twice.
func TestReading(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // for a reader that prints nothing
	defer cancel()
	records := answersToRead()
	records = append(records, stream.Record{Topic: records[0].Topic, Key: []byte("a tombstone")}, records[0])
	broker, err := embedded.Start(0, 1, records[0].Topic)
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	if err := broker.Send(t.Context(), records...); err != nil {
		t.Fatal(err)
	}
	answers, lines := readAnswers(t, records)

	// Each program prints a line for each answer, with its own word for no score.
	printed := func(null string) string {
		var b strings.Builder
		for _, a := range answers {
			fmt.Fprintln(&b, a["id"], cmp.Or[any](a["class"], "no label"), cmp.Or[any](a["score"], null))
		}
		return b.String()
	}
	save := func(t *testing.T, name, language string) string {
		t.Helper()
		program := strings.Replace(onReadingPage(t, language, ""), "localhost:9092", broker.Addr(), 1)
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(program), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	t.Run("Python", func(t *testing.T) {
		cmd := exec.CommandContext(ctx, testenv.Python(t), "-B", save(t, "read.py", "python"))
		cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8", "PYTHONPATH="+testenv.Readers(t))
		comparePrinted(t, cmd, printed("None"))
	})
	t.Run("Java", func(t *testing.T) {
		lib := filepath.Join(testenv.KafkaLib(t), "*")
		cmd := exec.CommandContext(ctx, "java", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8",
			"-cp", lib, save(t, "Read.java", "java"))
		comparePrinted(t, cmd, printed("null"))
	})
	t.Run("DuckDB", func(t *testing.T) {
		compareSelected(t, lines, answers[:len(answers)-1])
	})
}

// answersToRead are the service's answers of each kind, each with an id and times of its own.
func answersToRead() (out []stream.Record) {
	for i, kind := range kinds() {
		r := record(nil)
		r.Offset = int64(i)
		kind.p.Timings.Infer = time.Duration(i*i+1) * time.Millisecond
		image := input.Image{Source: cmp.Or(kind.source, "record")}
		out = append(out, answerRecord(r, image, kind.p, "ImageOutputTopic")...)
	}
	return out
}

// A read answer has its keys, with null as nil, and a json.Number for each number.
type readAnswer map[string]any

// readAnswers reads records in Go, and returns their lines too. It leaves out tombstones.
func readAnswers(t *testing.T, records []stream.Record) (answers []readAnswer, lines []byte) {
	t.Helper()
	for _, r := range records {
		if r.Value == nil {
			continue
		}
		var a readAnswer
		d := json.NewDecoder(bytes.NewReader(r.Value))
		d.UseNumber()
		if err := d.Decode(&a); err != nil {
			t.Fatal(err)
		}
		answers, lines = append(answers, a), append(append(lines, r.Value...), '\n')
	}
	return answers, lines
}

// onReadingPage returns the code block of a language, below the heading.
func onReadingPage(t *testing.T, language, heading string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(testenv.Root(t), "docs", "reading.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, below, _ := strings.Cut(string(b), heading)
	block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindStringSubmatch(below)
	if block == nil {
		t.Fatalf("docs/reading.md has no %s below %q", language, heading)
	}
	return block[1]
}

// comparePrinted compares what a program prints that never ends.
func comparePrinted(t *testing.T, cmd *exec.Cmd, want string) {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 0, len(want))
	for err == nil && len(got) < len(want) && strings.HasPrefix(want, string(got)) {
		var n int
		n, err = stdout.Read(got[len(got):cap(got)])
		got = got[:len(got)+n]
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if diff := gocmp.Diff(want, string(got)); diff != "" {
		t.Errorf("%v (-want +got):\n%s%s", err, diff, stderr.String())
	}
}

// selecting runs the statements on its standard input, and prints the rows of each on a line.
const selecting = `
import duckdb, json, sys
for statement in duckdb.extract_statements(sys.stdin.read()):
    print(json.dumps(duckdb.execute(statement).fetchall()))
`

// compareSelected compares what the statements for DuckDB find in the lines with the answers, each
// of which is there once.
func compareSelected(t *testing.T, lines []byte, answers []readAnswer) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "answers.jsonl"), lines, 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), testenv.Python(t), "-c", selecting)
	cmd.Dir, cmd.Stdin, cmd.Stderr = dir, strings.NewReader(onReadingPage(t, "sql", "## DuckDB")), &stderr
	cmd.Env = append(os.Environ(), "PYTHONPATH="+testenv.Readers(t))
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	var got [][][]any
	for line := range strings.Lines(string(out)) {
		var rows [][]any
		if err := json.Unmarshal([]byte(line), &rows); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		got = append(got, rows)
	}
	want := [][][]any{
		{{float64(len(answers))}}, // rows that were put into the table
		imagesOfClasses(answers), likelyClasses(answers), runTimes(answers),
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// imagesOfClasses has a row of each class: its name, how many images have it, the highest score.
func imagesOfClasses(answers []readAnswer) (rows [][]any) {
	images, highest := map[any]float64{}, map[any]any{}
	for _, a := range answers {
		class := a["class"]
		images[class]++
		best, known := highest[class].(float64)
		if a["score"] != nil && (!known || number(a["score"]) > best) {
			highest[class] = number(a["score"])
		}
	}
	for class, n := range images {
		rows = append(rows, []any{class, n, highest[class]})
	}
	slices.SortFunc(rows, func(a, b []any) int {
		nullsLast := cmp.Compare(fmt.Sprint(a[0] == nil, a[0]), fmt.Sprint(b[0] == nil, b[0]))
		return cmp.Or(cmp.Compare(b[1].(float64), a[1].(float64)), nullsLast)
	})
	return rows
}

// likelyClasses has a row of each class of an answer with a score of at least 0.1.
func likelyClasses(answers []readAnswer) (rows [][]any) {
	for _, a := range answers {
		predictions, _ := a["predictions"].([]any)
		for _, p := range predictions {
			p := p.(map[string]any)
			if score := number(p["score"]); score >= 0.1 {
				rows = append(rows, []any{a["id"], p["label"], score})
			}
		}
	}
	slices.SortFunc(rows, func(a, b []any) int {
		return cmp.Or(cmp.Compare(a[0].(string), b[0].(string)), cmp.Compare(b[2].(float64), a[2].(float64)))
	})
	return rows
}

// runTimes has a row of each backend: the median and the longest time of a run.
func runTimes(answers []readAnswer) (rows [][]any) {
	times := map[string][]float64{}
	for _, a := range answers {
		backend := a["backend"].(string)
		times[backend] = append(times[backend], number(a["timings_ms"].(map[string]any)["infer"]))
	}
	for _, backend := range slices.Sorted(maps.Keys(times)) {
		all := times[backend]
		slices.Sort(all)
		median := (all[(len(all)-1)/2] + all[len(all)/2]) / 2
		rows = append(rows, []any{backend, median, all[len(all)-1]})
	}
	return rows
}

// number is a number of an answer.
func number(v any) float64 {
	f, err := v.(json.Number).Float64()
	if err != nil {
		panic(err)
	}
	return f
}

// The tables for ksqlDB and Flink have a column for each key of an answer but outputs, whose keys
// are the model's.
func TestReadingColumns(t *testing.T) {
	column := regexp.MustCompile("`([a-z_]+)` ")
	keys := map[string]bool{}
	var add func(of reflect.Type)
	add = func(of reflect.Type) {
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct {
			return
		}
		for f := range of.Fields() {
			if name := f.Tag.Get("json"); name != "outputs" {
				keys[name] = true
				add(f.Type)
			}
		}
	}
	add(reflect.TypeFor[Answer]())
	for _, heading := range []string{"## ksqlDB", "## Flink SQL"} {
		table, _, _ := strings.Cut(onReadingPage(t, "sql", heading), "WITH (")
		columns := map[string]bool{}
		for _, m := range column.FindAllStringSubmatch(table, -1) {
			columns[m[1]] = true
		}
		if diff := gocmp.Diff(keys, columns); diff != "" {
			t.Errorf("%s (-answer +columns):\n%s", heading, diff)
		}
	}
}
