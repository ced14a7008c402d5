package main

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"time"

	"inceptor/bench/measure"
)

// write prints a row for each quarter of the time.
func write(w io.Writer, samples []sample, o options) {
	sent := 0
	for _, s := range samples {
		sent += len(s.took)
	}
	measure.WriteRow(w, "sent", fmt.Sprintf("%d photos at %g/s for %v, all answered", sent, o.rate, samples[len(samples)-1].at.Round(time.Second)))
	fmt.Fprintln(w)
	measure.WriteRow(w, "quarter", "MiB resident (least – most)", "file descriptors", "threads", "p50, p99, most, ms")
	measure.WriteRow(w, "---", "---", "---", "---", "---")
	for i := range 4 {
		part := samples[i*len(samples)/4 : (i+1)*len(samples)/4]
		var rss, descriptors, threads []float64
		var took []time.Duration
		for _, s := range part {
			rss = append(rss, s.rss)
			descriptors = append(descriptors, float64(s.descriptors))
			threads = append(threads, float64(s.threads))
			took = append(took, s.took...)
		}
		ms := func(q float64) int64 { return measure.Quantile(took, q).Milliseconds() }
		measure.WriteRow(w, fmt.Sprint(i+1), measure.Spread(rss, 1.0/(1<<20), 0), measure.Spread(descriptors, 1, 0), measure.Spread(threads, 1, 0),
			fmt.Sprintf("%d, %d, %d", ms(0.5), ms(0.99), ms(1)))
	}
}

// The plot, in pixels.
const (
	width, height = 800, 260
	left, right   = 60, 60
	top, bottom   = 30, 30
)

// plot draws memory and file descriptors over time, both from zero.
func plot(samples []sample) []byte {
	var b bytes.Buffer
	printf := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	end := samples[len(samples)-1].at
	var memory, descriptors []float64
	for _, s := range samples {
		memory = append(memory, s.rss/(1<<20))
		descriptors = append(descriptors, float64(s.descriptors))
	}
	x := func(at time.Duration) float64 { return left + (width-left-right)*at.Seconds()/end.Seconds() }
	line := func(values []float64, color string) (most float64) {
		most = 1.25 * slices.Max(values)
		printf(`<polyline fill="none" stroke="%s" stroke-width="1.5" points="`, color)
		for i, v := range values {
			printf("%.1f,%.1f ", x(samples[i].at), top+(height-top-bottom)*(1-v/most))
		}
		printf("\"/>\n")
		return most
	}
	text := func(x, y float64, anchor, color, s string) {
		printf(`<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>`+"\n", x, y, anchor, color, s)
	}
	printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	printf(`<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	printf(`<path d="M%d %dV%dH%dV%d" fill="none" stroke="#888"/>`+"\n", left, top, height-bottom, width-right, top)
	const blue, orange, grey = "#1f77b4", "#d95f02", "#444"
	mostMemory, mostDescriptors := line(memory, blue), line(descriptors, orange)
	for i := range 5 {
		part := float64(i) / 4
		y := top + (height-top-bottom)*(1-part) + 4
		text(left-6, y, "end", blue, fmt.Sprintf("%.0f", part*mostMemory))
		text(width-right+6, y, "start", orange, fmt.Sprintf("%.0f", part*mostDescriptors))
		at := time.Duration(part * float64(end))
		text(x(at), height-bottom+18, "middle", grey, at.Round(time.Second).String())
	}
	text(left, top-12, "start", blue, "MiB resident")
	text(width-right, top-12, "end", orange, "file descriptors")
	printf("</svg>\n")
	return b.Bytes()
}
