package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"strings"

	"inceptor/bench/measure"
)

// write prints what was measured. Each value is a median, with the least and
// the largest of the rounds.
func (b *bench) write(ctx context.Context, w io.Writer) error {
	if err := b.writeMachine(ctx, w); err != nil {
		return err
	}
	r := b.results
	if b.raw != nil || b.outside != nil || b.classify != nil || r.Has(serviceRate) {
		b.writeThroughput(w)
	}
	if r.Has(latencies) {
		b.writeLatency(w)
	}
	if r.Has(memoryRSS) {
		b.writeMemory(w)
	}
	if r.Has(startFirst) {
		b.writeStart(w)
	}
	return nil
}

func (b *bench) writeMachine(ctx context.Context, w io.Writer) error {
	if err := measure.WriteMachine(ctx, w, measure.Inception, b.binary, b.config.TensorFlow.Library); err != nil {
		return err
	}
	if b.kafka != nil {
		measure.WriteRow(w, "Kafka", kafkaVersion())
	}
	if len(b.service) > 0 {
		measure.WriteRow(w, "settings", "`"+strings.Join(b.service, " ")+"`")
	}
	measure.WriteRow(w, "measured", fmt.Sprintf("%d rounds, medians (least – largest)", b.rounds))
	if b.results.Has(foreign) {
		measure.WriteRow(w, "other processes", fmt.Sprintf("took %s %% of the machine meanwhile", measure.Spread(b.results[foreign], 100, 0)))
	}
	return nil
}

func kafkaVersion() string {
	jars, _ := filepath.Glob(filepath.Join(measure.KafkaLib, "kafka_*.jar"))
	if len(jars) == 0 {
		return "unknown"
	}
	_, version, _ := strings.Cut(strings.TrimSuffix(filepath.Base(jars[0]), ".jar"), "-")
	return version
}

func (b *bench) writeThroughput(w io.Writer) {
	r := b.results
	fmt.Fprintf(w, "\n| throughput | images/s | CPU ms an image | images a batch |\n| --- | --- | --- | --- |\n")
	row := func(what, rate, cpu, batch string) {
		if !r.Has(rate) {
			return
		}
		cells := []string{what, measure.Spread(r[rate], 1, 2), "", ""}
		if r.Has(cpu) {
			cells[2] = measure.Spread(r[cpu], 1000, 1)
		}
		if r.Has(batch) {
			cells[3] = fmt.Sprintf("%.1f", r.Median(batch))
		}
		measure.WriteRow(w, cells...)
	}
	row("decode, resize and scale alone, one at a time", decodeRate, decodeCPU, "")
	row("the same, on all cores", decodeAllRate, "", "")
	for _, n := range batchSizes {
		row(fmt.Sprintf("(a) bare C API on decoded pixels, the same graph, batch %d", n), rawRate(n), rawCPU(n), "")
	}
	outside := "(o) onnxruntime on pixels, the same weights"
	if b.int8() {
		outside += " in int8 (QDQ)"
	}
	for _, n := range batchSizes {
		row(fmt.Sprintf("%s, batch %d", outside, n), outsideRate(n), outsideCPU(n), "")
	}
	if b.raw != nil {
		r[allowed] = limit(r, runtime.NumCPU())
		row(fmt.Sprintf("(a') what batch %d and the decode allow: 1 / (1/a + decode CPU / cores)", bestBatch(r)), allowed, "", "")
	}
	row("(b) decode and run in process, Classify", classifyRate, classifyCPU, classifyBatch)
	row("(c) service, Kafka to Kafka", serviceRate, serviceCPU, serviceBatch)

	if r.Has(brokerServiceCPU) {
		fmt.Fprintf(w, "\nOn the same machine, (c) also has the broker (%.1f CPU ms an image) and the sender and reader (%.1f).\n",
			1000*r.Median(brokerServiceCPU), 1000*r.Median(ownServiceCPU))
	}
	head := "\n| ratio, of each round | | aim |\n| --- | --- | --- |\n"
	share := func(what string, a, b []float64, aim string) {
		if len(a) > 0 && len(b) > 0 {
			fmt.Fprintf(w, "%s| %s | %s | %s |\n", head, what, measure.Spread(measure.Each(a, b, measure.Ratio), 1, 3), aim)
			head = ""
		}
	}
	for _, n := range batchSizes {
		share(fmt.Sprintf("(a) / (o), batch %d", n), r[rawRate(n)], r[outsideRate(n)], "")
	}
	share("(b) / (a')", r[classifyRate], r[allowed], "≥ 0.97")
	share("(c) / (b)", r[serviceRate], r[classifyRate], "≥ 0.95")
	share("(c) / (b), had (c) the processor time of broker, sender and reader too", alone(r), r[classifyRate], "")
	share("(c) / (a')", r[serviceRate], r[allowed], "≥ 0.9")
	share("CPU an image, (b) / (a + decode)", r[classifyCPU], needed(r), "")
	share("CPU an image, (c) / (b)", r[serviceCPU], r[classifyCPU], "")
}

func (b *bench) writeLatency(w io.Writer) {
	r := b.results
	fmt.Fprintf(w, "\n| latency at %.0f %% load | ms |\n| --- | --- |\n", 100*measure.LatencyLoad)
	row := func(what string, values []float64) {
		fmt.Fprintf(w, "| %s | %s |\n", what, measure.Spread(values, 1000, 1))
	}
	row(fmt.Sprintf("p50, from due to be sent until read, %.1f/s", r.Median(latencyRate)), r[latencyP50])
	fmt.Fprintf(w, "| p95, p99 of all %d records | %.1f, %.1f |\n", len(r[latencies]),
		1000*measure.Quantile(r[latencies], 0.95), 1000*measure.Quantile(r[latencies], 0.99))
	row("of it in the model, as the answers say", r[answerModel])
	row("– waiting", r[answerWait])
	row("– decode", r[answerCode])
	row("– run", r[answerInfer])
	if !r.Has(decodeAlone, runAlone) {
		return
	}
	alone := measure.Each(r[decodeAlone], r[runAlone], measure.Sum)
	row("one decode + one run of batch 1, one after the other", alone)
	fmt.Fprintf(w, "| p50 / (decode + run), of each round; aim ≤ 1.15 | %s |\n",
		measure.Spread(measure.Each(r[latencyP50], alone, measure.Ratio), 1, 3))
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
		if r.Has(row.name) {
			fmt.Fprintf(w, "| %s | %s |\n", row.what, measure.Spread(r[row.name], 1, 2))
		}
	}
}
