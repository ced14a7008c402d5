package main

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// write prints what was measured. Each value is a median, with the least and
// the largest of the rounds.
func (b *bench) write(ctx context.Context, w io.Writer) error {
	if err := b.writeMachine(ctx, w); err != nil {
		return err
	}
	r := b.results
	if b.raw != nil || b.classify != nil || r.has(serviceRate) {
		b.writeThroughput(w)
	}
	if r.has(latencies) {
		b.writeLatency(w)
	}
	if r.has(memoryRSS) {
		b.writeMemory(w)
	}
	if r.has(startFirst) {
		b.writeStart(w)
	}
	return nil
}

func (b *bench) writeMachine(ctx context.Context, w io.Writer) error {
	out, err := exec.CommandContext(ctx, b.binary, "version", "--tensorflow.library", b.config.TensorFlow.Library).Output()
	if err != nil {
		return fmt.Errorf("%s version: %w", b.binary, err)
	}
	fmt.Fprintf(w, "Inception v3 on JPEG photos of 640×427, %s.\n\n", time.Now().Format(time.DateOnly))
	fmt.Fprintf(w, "| machine | |\n| --- | --- |\n")
	row := func(key, value string) { fmt.Fprintf(w, "| %s | %s |\n", key, value) }
	row("processor", fmt.Sprintf("%s, %d cores, %.0f GiB", processor(), runtime.NumCPU(), memory()))
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if key == "processors" {
			continue
		}
		if key == "TensorFlow" { // its path says nothing to others
			value, _, _ = strings.Cut(value, "(")
		}
		row(key, strings.TrimSpace(value))
	}
	if b.kafka != nil {
		row("Kafka", kafkaVersion())
	}
	if len(b.service) > 0 {
		row("settings", "`"+strings.Join(b.service, " ")+"`")
	}
	row("measured", fmt.Sprintf("%d rounds, medians (least – largest)", b.rounds))
	if b.results.has(foreign) {
		row("other processes", fmt.Sprintf("took %.0f %% of the machine meanwhile (%.0f – %.0f)", triple(b.results[foreign], 100)...))
	}
	return nil
}

func kafkaVersion() string {
	jars, _ := filepath.Glob(filepath.Join(kafkaLib, "kafka_*.jar"))
	if len(jars) == 0 {
		return "unknown"
	}
	_, version, _ := strings.Cut(strings.TrimSuffix(filepath.Base(jars[0]), ".jar"), "-")
	return version
}

// triple is median, least and largest, scaled, for a format.
func triple(values []float64, scale float64) []any {
	return []any{scale * quantile(values, 0.5), scale * slices.Min(values), scale * slices.Max(values)}
}

func (b *bench) writeThroughput(w io.Writer) {
	r := b.results
	fmt.Fprintf(w, "\n| throughput | images/s | CPU ms an image | images a batch |\n| --- | --- | --- | --- |\n")
	row := func(what, rate, cpu, batch string) {
		if !r.has(rate) {
			return
		}
		cells := []string{what, fmt.Sprintf("%.2f (%.2f – %.2f)", triple(r[rate], 1)...), "", ""}
		if r.has(cpu) {
			cells[2] = fmt.Sprintf("%.1f (%.1f – %.1f)", triple(r[cpu], 1000)...)
		}
		if r.has(batch) {
			cells[3] = fmt.Sprintf("%.1f", r.median(batch))
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | "))
	}
	row("decode, resize and scale alone, one at a time", decodeRate, decodeCPU, "")
	row("the same, on all cores", decodeAllRate, "", "")
	for _, n := range batchSizes {
		row(fmt.Sprintf("(a) bare C API on decoded pixels, the same graph, batch %d", n), rawRate(n), rawCPU(n), "")
	}
	if b.raw != nil {
		r[allowed] = r.limit(runtime.NumCPU())
		row(fmt.Sprintf("(a') what batch %d and the decode allow: 1 / (1/a + decode CPU / cores)", r.bestBatch()), allowed, "", "")
	}
	row("(b) decode and run in process, Classify", classifyRate, classifyCPU, classifyBatch)
	row("(c) service, Kafka to Kafka", serviceRate, serviceCPU, serviceBatch)

	if r.has(brokerServiceCPU) {
		fmt.Fprintf(w, "\nOn the same machine, (c) also has the broker (%.1f CPU ms an image) and the sender and reader (%.1f).\n",
			1000*r.median(brokerServiceCPU), 1000*r.median(ownServiceCPU))
	}
	if r.has(classifyRate) && (b.raw != nil || r.has(serviceRate)) {
		fmt.Fprintf(w, "\n| ratio, of each round | | aim |\n| --- | --- | --- |\n")
	}
	share := func(what string, a, b []float64, aim string) {
		if len(a) > 0 && len(b) > 0 {
			fmt.Fprintf(w, "| %s | %s | %s |\n", what, fmt.Sprintf("%.3f (%.3f – %.3f)", triple(each(a, b, ratio), 1)...), aim)
		}
	}
	share("(b) / (a')", r[classifyRate], r[allowed], "≥ 0.97")
	share("(c) / (b)", r[serviceRate], r[classifyRate], "≥ 0.95")
	share("CPU an image, (b) / (a + decode)", r[classifyCPU], r.needed(), "")
	share("CPU an image, (c) / (b)", r[serviceCPU], r[classifyCPU], "")
}

func (b *bench) writeLatency(w io.Writer) {
	r := b.results
	fmt.Fprintf(w, "\n| latency at %.0f %% load | ms |\n| --- | --- |\n", 100*load)
	row := func(what string, values []float64) {
		fmt.Fprintf(w, "| %s | %s |\n", what, fmt.Sprintf("%.1f (%.1f – %.1f)", triple(values, 1000)...))
	}
	row(fmt.Sprintf("p50, from due to be sent until read, %.1f/s", r.median(latencyRate)), r[latencyP50])
	fmt.Fprintf(w, "| p95, p99 of all %d records | %.1f, %.1f |\n", len(r[latencies]),
		1000*quantile(r[latencies], 0.95), 1000*quantile(r[latencies], 0.99))
	row("of it in the model, as the answers say", r[answerModel])
	row("– waiting", r[answerWait])
	row("– decode", r[answerCode])
	row("– run", r[answerInfer])
	if !r.has(decodeAlone, runAlone) {
		return
	}
	alone := each(r[decodeAlone], r[runAlone], sum)
	row("one decode + one run of batch 1, one after the other", alone)
	fmt.Fprintf(w, "| p50 / (decode + run), of each round; aim ≤ 1.15 | %s |\n",
		fmt.Sprintf("%.3f (%.3f – %.3f)", triple(each(r[latencyP50], alone, ratio), 1)...))
}

func (b *bench) writeMemory(w io.Writer) {
	r := b.results
	last := func(name string) float64 { return r[name][len(r[name])-1] / (1 << 20) }
	fmt.Fprintf(w, "\n| memory of the service after load | MiB |\n| --- | --- |\n")
	fmt.Fprintf(w, "| resident; aim ≤ 800 MB | %.0f |\n", last(memoryRSS))
	fmt.Fprintf(w, "| resident at most | %.0f |\n", last(memoryPeak))
	fmt.Fprintf(w, "| of it TensorFlow and what it holds | %.0f |\n", last(memoryNative))
	fmt.Fprintf(w, "| of it Go | %.0f |\n", last(memoryGo))
}

func (b *bench) writeStart(w io.Writer) {
	r := b.results
	fmt.Fprintf(w, "\n| start, files in the page cache, %d records waiting | s after the process began |\n| --- | --- |\n", startBacklog)
	for _, row := range []struct{ what, name string }{
		{"library open, load begins", startLoading},
		{"model loaded and warm", startServing},
		{"partitions assigned", startAssigned},
		{"first answer in the output topic; aim ≤ 5 s", startFirst},
		{"CPU seconds until all are answered", startCPU},
	} {
		if r.has(row.name) {
			fmt.Fprintf(w, "| %s | %s |\n", row.what, fmt.Sprintf("%.2f (%.2f – %.2f)", triple(r[row.name], 1)...))
		}
	}
}
