package service

import (
	"runtime/metrics"

	"github.com/prometheus/client_golang/prometheus"

	"inceptor/internal/host"
	"inceptor/model"
)

// memoryParts divide the resident memory of the process, in bytes. They are zero where /proc does
// not tell it.
type memoryParts struct {
	golang, model, library, file uint64
}

// memoryOf returns the parts, with these versions loaded.
func memoryOf(versions []model.Status) memoryParts {
	anonymous, file := host.ResidentMemory()
	p := memoryParts{golang: min(goBytes(), anonymous), file: file}
	for _, v := range versions {
		p.model += v.Memory
	}
	p.model = min(p.model, anonymous-p.golang) // it was measured when each was loaded
	p.library = anonymous - p.golang - p.model
	return p
}

func (p memoryParts) resident() uint64 { return p.golang + p.model + p.library + p.file }

// goBytes is the memory of the Go runtime: its heap, stacks and own structures.
func goBytes() uint64 {
	samples := []metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
	}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

// NewMemory returns the metrics of the process's memory, where the system tells it. New registers
// them.
func NewMemory(versions VersionController) prometheus.Collector { return memoryMetrics{versions} }

type memoryMetrics struct{ versions VersionController } // nil: there are none

var (
	residentDesc = prometheus.NewDesc("inceptor_resident_bytes",
		"Resident memory of the process, by part: go (heap and stacks), model (what loading the versions took) and library (the rest: "+
			"TensorFlow and its buffers), and by kind: anonymous, or file (pages of the program and its libraries, which the kernel can drop).",
		[]string{"part", "kind"}, nil)
	memoryLimitDesc = prometheus.NewDesc("inceptor_memory_limit_bytes",
		"Memory that the process may take at most: the limit of its control group, or the machine's memory.", nil, nil)
	memoryAvailableDesc = prometheus.NewDesc("inceptor_memory_available_bytes",
		"Memory that is left to the process in its control group, or on the machine if that is less.", nil, nil)
)

// Describe implements prometheus.Collector.
func (memoryMetrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{residentDesc, memoryLimitDesc, memoryAvailableDesc} {
		c <- d
	}
}

// Collect implements prometheus.Collector.
func (m memoryMetrics) Collect(c chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, bytes uint64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(bytes), labels...)
	}
	if p := memoryOf(versionsOf(m.versions)); p.resident() > 0 {
		gauge(residentDesc, p.golang, "go", "anonymous")
		gauge(residentDesc, p.model, "model", "anonymous")
		gauge(residentDesc, p.library, "library", "anonymous")
		gauge(residentDesc, p.file, "library", "file")
	}
	if limit, ok := host.MemoryLimit(); ok {
		gauge(memoryLimitDesc, limit)
	}
	if left, ok := host.AvailableMemory(); ok {
		gauge(memoryAvailableDesc, left)
	}
}
