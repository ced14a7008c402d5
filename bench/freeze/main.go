// Command freeze measures what loading an Inception v3 with
// savedmodel.Options.Optimize changes: time from the start of the load to the
// first answer, memory, and time per run, against the plain model. Each
// measurement is a process of its own, one after the other, in rounds; medians
// of the rounds are printed as Markdown.
//
// Run it in the checkout's folder after `testenv/setup.sh test`:
//
//	go run ./bench/freeze -rounds 5
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"time"

	"inceptor/savedmodel"
)

const (
	modelDir = "savedmodel/inception/1"
	cycles   = 20 // loads and closes after which memory is looked at
)

// batches are what is run, in this order.
var batches = []int{1, 2, 4, 8}

// A setting is one row of the table.
type setting struct {
	Name     string
	Optimize bool
	Kernels  savedmodel.Kernels
	OneDNN   string // TF_ENABLE_ONEDNN_OPTS
}

var settings = []setting{
	{"plain, oneDNN off", false, savedmodel.KernelsAuto, "0"},
	{"frozen, TensorFlow's kernels, oneDNN off", true, savedmodel.KernelsTensorFlow, "0"},
	{"frozen, oneDNN's kernels, oneDNN off", true, savedmodel.KernelsOneDNN, "0"},
	{"plain, oneDNN on", false, savedmodel.KernelsAuto, "1"},
	{"frozen, TensorFlow's choice, oneDNN on", true, savedmodel.KernelsTensorFlow, "1"},
	{"frozen, oneDNN's kernels, oneDNN on", true, savedmodel.KernelsOneDNN, "1"},
}

// A measurement is what one process has found. Times are in milliseconds,
// memory is in MB.
type measurement struct {
	Library      float64 // resident before the load
	First        float64 // load and first run
	FirstCPU     float64
	Loaded       float64 // resident after the load and two runs, trimmed
	Peak         float64 // most that was resident until then
	Worked       float64 // resident after all runs, trimmed
	Run, CPU     []float64
	AfterCycles  float64 // resident with nothing loaded, after that many cycles
	CyclesGrowth float64 // since half of them
}

func main() { os.Exit(status()) }

func status() int {
	rounds := flag.Int("rounds", 5, "measurements of each setting")
	child := flag.Int("child", -1, "the setting to measure in this process; for this program's own use")
	reload := flag.Bool("reload", false, "with -child: load and close, again and again")
	flag.Parse()
	var err error
	switch {
	case *child >= len(settings) || *rounds < 1:
		err = errors.New("want one round or more")
	case *child >= 0:
		err = work(settings[*child], *reload)
	default:
		err = measureAll(*rounds)
	}
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, "freeze:", err)
	return 1
}

// measureAll measures every setting in turn, round by round.
func measureAll(rounds int) error {
	if _, err := os.Stat(modelDir); err != nil {
		return fmt.Errorf("%w: run this in the checkout's folder, after `testenv/setup.sh test`", err)
	}
	begin := time.Now()
	found := make([][]measurement, len(settings))
	for round := range rounds {
		for i := range settings {
			fmt.Fprintf(os.Stderr, "round %d of %d: %s\n", round+1, rounds, settings[i].Name)
			m, err := process(i, false)
			if err != nil {
				return err
			}
			found[i] = append(found[i], m)
		}
	}
	cycled := make([]measurement, len(settings))
	for i := range settings {
		fmt.Fprintf(os.Stderr, "%d reloads: %s\n", cycles, settings[i].Name)
		m, err := process(i, true)
		if err != nil {
			return err
		}
		cycled[i] = m
	}
	write(os.Stdout, found, cycled, time.Since(begin))
	return nil
}

// process measures a setting in a process of its own, whose library opens
// with that setting's environment.
func process(i int, reload bool) (measurement, error) {
	var m measurement
	self, err := os.Executable()
	if err != nil {
		return m, err
	}
	cmd := exec.Command(self, fmt.Sprintf("-child=%d", i), fmt.Sprintf("-reload=%v", reload))
	cmd.Env = append(os.Environ(), "TF_ENABLE_ONEDNN_OPTS="+settings[i].OneDNN)
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	if err := cmd.Run(); err != nil {
		return m, fmt.Errorf("%s: %w\n%s", settings[i].Name, err, log.String())
	}
	return m, json.Unmarshal(out.Bytes(), &m)
}

// write prints the tables; after the medians stand the least and the most.
func write(w io.Writer, found [][]measurement, cycled []measurement, took time.Duration) {
	fmt.Fprintf(w, "%s; %d rounds in %.0f s.\n\n", processor(), len(found[0]), took.Seconds())
	fmt.Fprintf(w, "| | load + first run, ms | CPU ms of it | MB after load + 2 runs | MB at most until then | MB after all runs | MB closed, after %d cycles | growth since %d |\n", cycles, cycles/2)
	fmt.Fprintln(w, "| --- | --- | --- | --- | --- | --- | --- | --- |")
	for i, s := range settings {
		fmt.Fprintf(w, "| %s |", s.Name)
		for _, of := range []func(measurement) float64{
			func(m measurement) float64 { return m.First }, func(m measurement) float64 { return m.FirstCPU },
			func(m measurement) float64 { return m.Loaded }, func(m measurement) float64 { return m.Peak }, func(m measurement) float64 { return m.Worked },
		} {
			fmt.Fprintf(w, " %s |", spread(found[i], of))
		}
		fmt.Fprintf(w, " %.0f | %+.0f |\n", cycled[i].AfterCycles, cycled[i].CyclesGrowth)
	}
	for _, table := range []struct {
		title string
		of    func(m measurement, batch int) float64
	}{
		{"ms per run", func(m measurement, b int) float64 { return m.Run[b] }},
		{"CPU ms per run", func(m measurement, b int) float64 { return m.CPU[b] }},
	} {
		fmt.Fprintf(w, "\n| %s, batch of |", table.title)
		for _, n := range batches {
			fmt.Fprintf(w, " %d |", n)
		}
		fmt.Fprintln(w, "\n| --- | --- | --- | --- | --- |")
		for i, s := range settings {
			fmt.Fprintf(w, "| %s |", s.Name)
			for b := range batches {
				fmt.Fprintf(w, " %s |", spread(found[i], func(m measurement) float64 { return table.of(m, b) }))
			}
			fmt.Fprintln(w)
		}
	}
}

func spread(all []measurement, of func(measurement) float64) string {
	values := make([]float64, len(all))
	for i, m := range all {
		values[i] = of(m)
	}
	slices.Sort(values)
	return fmt.Sprintf("%.0f (%.0f – %.0f)", values[len(values)/2], values[0], values[len(values)-1])
}
