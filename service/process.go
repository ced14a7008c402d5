package service

import (
	"bytes"
	"os"
	"runtime/metrics"
	"strconv"
)

// nativeBytes returns the resident memory of the process less the Go runtime's;
// zero without /proc.
func nativeBytes() float64 {
	resident, ok := residentBytes()
	if !ok {
		return 0
	}
	goBytes := goBytes()
	return float64(max(resident, goBytes) - goBytes)
}

// goBytes is the memory of the Go runtime: its heap, stacks and own structures.
func goBytes() uint64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// residentBytes reads the second field of /proc/self/statm, in pages.
func residentBytes() (uint64, bool) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.ParseUint(string(fields[1]), 10, 64)
	return pages * uint64(os.Getpagesize()), err == nil
}
