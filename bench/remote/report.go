package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"inceptor/bench/measure"
)

// Keys of what is measured of each backend, to which its name is added. Rates
// are images a second, CPU is seconds of processor time an image, the rest
// seconds and bytes.
const (
	rate         = "rate, "
	batch        = "batch, "
	clientCPU    = "CPU of client, "
	serverCPU    = "CPU of server, "
	clientMemory = "memory of client, "
	serverMemory = "memory of server, "
	steadyCPU    = "CPU at the fixed rate, "
	p50          = "p50, "
	p99          = "p99, "
	latencies    = "latencies, " // of every photo
	difference   = "difference of scores, "
)

// Keys of what is measured of all.
const (
	latencyRate = "latency rate"
	foreign     = "foreign CPU"
)

func key(what string, of backend) string { return what + of.name }

// write prints what was measured. Each value is a median, with the least and
// the largest of the rounds.
func (b *bench) write(ctx context.Context, w io.Writer) error {
	if err := measure.WriteMachine(ctx, w, measure.Inception, b.binary, b.config.TensorFlow.Library); err != nil {
		return err
	}
	if len(b.settings) > 0 {
		measure.WriteRow(w, "settings", "`"+strings.Join(b.settings, " ")+"`")
	}
	measure.WriteRow(w, "measured", fmt.Sprintf("%d rounds of %v of each, medians (least – largest)", b.rounds, b.phase))
	measure.WriteRow(w, "other processes", fmt.Sprintf("took %s %% of the machine meanwhile", measure.Spread(b.results[foreign], 100, 0)))
	b.writeThroughput(w)
	b.writeLatency(w)
	b.writeRatios(w)
	if b.retries > 0 {
		fmt.Fprintf(w, "\nCalls to servers that did not succeed, and were made again: %d.\n", b.retries)
	}
	return nil
}

// together are, of each round, the client's and the server's values, if there
// is a server.
func (b *bench) together(client, server string, at backend) []float64 {
	if at.serve == nil {
		return b.results[key(client, at)]
	}
	return measure.Each(b.results[key(client, at)], b.results[key(server, at)], measure.Sum)
}

func (b *bench) writeThroughput(w io.Writer) {
	r := b.results
	fmt.Fprintln(w)
	measure.WriteRow(w, fmt.Sprintf("throughput, %d callers", measure.Callers),
		"images/s", "CPU ms an image, client + server", "of it client", "images a batch", "MiB resident, client + server", "of it client")
	measure.WriteRow(w, "---", "---", "---", "---", "---", "---", "---")
	for _, at := range backends {
		measure.WriteRow(w, at.what,
			measure.Spread(r[key(rate, at)], 1, 2),
			measure.Spread(b.together(clientCPU, serverCPU, at), 1000, 1),
			fmt.Sprintf("%.1f", 1000*r.Median(key(clientCPU, at))),
			fmt.Sprintf("%.1f", r.Median(key(batch, at))),
			measure.Spread(b.together(clientMemory, serverMemory, at), 1.0/(1<<20), 0),
			fmt.Sprintf("%.0f", r.Median(key(clientMemory, at))/(1<<20)),
		)
	}
}

func (b *bench) writeLatency(w io.Writer) {
	r := b.results
	fmt.Fprintln(w)
	measure.WriteRow(w, fmt.Sprintf("latency at %.1f images/s, %.0f %% of embedded's throughput", r.Median(latencyRate), 100*measure.LatencyLoad),
		"p50, ms", "p99 of a round, ms", "p99, most of all photos, ms", "CPU ms an image, client + server")
	measure.WriteRow(w, "---", "---", "---", "---", "---")
	for _, at := range backends {
		all := r[key(latencies, at)]
		measure.WriteRow(w, at.what,
			measure.Spread(r[key(p50, at)], 1000, 1),
			measure.Spread(r[key(p99, at)], 1000, 1),
			fmt.Sprintf("%.1f, %.1f of %d", 1000*measure.Quantile(all, 0.99), 1000*measure.Quantile(all, 1), len(all)),
			measure.Spread(r[key(steadyCPU, at)], 1000, 1),
		)
	}
}

func (b *bench) writeRatios(w io.Writer) {
	r, first := b.results, backends[0]
	fmt.Fprintln(w)
	measure.WriteRow(w, "ratio to embedded, of each round", "throughput", "CPU an image", "p50", "p99", "memory", "largest difference of a score")
	measure.WriteRow(w, "---", "---", "---", "---", "---", "---", "---")
	ratio := func(a, of []float64) string { return measure.Spread(measure.Each(a, of, measure.Ratio), 1, 2) }
	for _, at := range backends[1:] {
		measure.WriteRow(w, at.what,
			ratio(r[key(rate, at)], r[key(rate, first)]),
			ratio(b.together(clientCPU, serverCPU, at), r[key(clientCPU, first)]),
			ratio(r[key(p50, at)], r[key(p50, first)]),
			ratio(r[key(p99, at)], r[key(p99, first)]),
			ratio(b.together(clientMemory, serverMemory, at), r[key(clientMemory, first)]),
			fmt.Sprintf("%.2g", measure.Quantile(r[key(difference, at)], 1)),
		)
	}
}
