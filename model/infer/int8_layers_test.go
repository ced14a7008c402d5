//go:build !race

package infer

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"inceptor/savedmodel"
	"inceptor/testenv"
)

var writeLayers = flag.Bool("write-layers", false, "write the table of TestInt8LayerErrors into docs/int8.md")

// The marks of the table in docs/int8.md.
const (
	tableBegins = "<!-- TestInt8LayerErrors writes this table. -->\n"
	tableEnds   = "<!-- The table ends. -->\n"
)

// A layerError is a line of the table.
type layerError struct {
	name            string
	multiplications int64   // of an image
	ofRange         float64 // root of the mean square of the results, as a part of the range
	error           float64 // of the results in int8, as a part of that root
}

func (e layerError) String() string {
	return fmt.Sprintf("| %s | %.1f | %.1f %% | %.1f %% |\n", e.name, float64(e.multiplications)/1e6, 100*e.ofRange, 100*e.error)
}

// The table of errors by layer in docs/int8.md is what three photos give that the calibration has
// not seen.
func TestInt8LayerErrors(t *testing.T) {
	f := folds(t)[0]
	calibration := f.quantize(t)
	calibration.Method = MethodLeastError
	float, small := inceptionIn(t, savedmodel.PrecisionFloat32, nil), inceptionIn(t, savedmodel.PrecisionInt8, &calibration)
	var layers []savedmodel.Layer
	for _, l := range float.model.Layers() {
		if l.Multiplications > 0 {
			layers = append(layers, l)
		}
	}
	var names, small8 []string
	for _, l := range layers {
		names, small8 = append(names, l.Name), append(small8, l.Name+"/int8:0", l.Name+"/int8:2")
	}
	want, got := fetcherOf(t, float, names...), fetcherOf(t, small, small8...)
	squares, errors := make([]float64, len(layers)), make([]float64, len(layers))
	elements, ends := make([]float64, len(layers)), make([]float64, len(layers))
	for i := range 3 {
		p := f.compare[3*i]
		p.way.Name = ""
		a, b := want(p), got(p)
		for i := range layers {
			ends[i] = float64(floatsOf(t, b[2+2*i])[0])
			steps := b[1+2*i].Bytes()
			for j, v := range floatsOf(t, a[1+i]) {
				d := float64(steps[j])*ends[i]/int8Steps - float64(v)
				squares[i], errors[i], elements[i] = squares[i]+float64(v)*float64(v), errors[i]+d*d, elements[i]+1
			}
		}
		closeTensors(a)
		closeTensors(b)
	}
	lines := make([]layerError, len(layers))
	for i, l := range layers {
		parts := strings.Split(l.Name, "/")
		name := strings.TrimSuffix(parts[len(parts)-2], "_1")
		lines[i] = layerError{name, l.Multiplications, math.Sqrt(squares[i]/elements[i]) / ends[i], math.Sqrt(errors[i] / squares[i])}
	}
	compareTable(t, lines)
}

// compareTable compares the lines with the table in docs/int8.md, or writes it.
func compareTable(t *testing.T, lines []layerError) {
	t.Helper()
	file := filepath.Join(testenv.Root(t), "docs/int8.md")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, _ := strings.Cut(string(b), tableBegins)
	table, after, ok := strings.Cut(rest, tableEnds)
	if !ok {
		t.Fatalf("%s has no table", file)
	}
	if *writeLayers {
		text := "| Layer | Million multiplications | Root mean square, of the range | Error, of the root mean square |\n| --- | ---: | ---: | ---: |\n"
		for _, l := range lines {
			text += l.String()
		}
		if err := os.WriteFile(file, []byte(before+tableBegins+text+tableEnds+after), 0o644); err != nil { //nolint:gosec // for everybody to read
			t.Fatal(err)
		}
		return
	}
	rows := strings.Split(strings.TrimSpace(table), "\n")[2:]
	if len(rows) != len(lines) {
		t.Fatalf("the table has %d layers, the model %d", len(rows), len(lines))
	}
	var errors []float64
	for i, l := range lines {
		var of, off float64
		name, numbers, _ := strings.Cut(strings.TrimPrefix(rows[i], "| "), " | ")
		var multiplications float64
		if _, err := fmt.Sscanf(numbers, "%f | %f %% | %f %% |", &multiplications, &of, &off); err != nil || name != l.name {
			t.Fatalf("%s: want %s (%v)", rows[i], l, err)
		}
		// A processor without VNNI has filters of 7 bits, and others sum in another order.
		if math.Abs(multiplications-float64(l.multiplications)/1e6) > 0.06 || !(l.error < 0.02+3*off/100) {
			t.Errorf("%s: now %s", rows[i], l)
		}
		errors = append(errors, l.error)
	}
	slices.Sort(errors)
	t.Logf("the median error is %.3f, the largest %.3f", errors[len(errors)/2], errors[len(errors)-1])
}
