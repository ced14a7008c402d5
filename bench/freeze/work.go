package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"inceptor/savedmodel"
)

const runs = 4 // timed runs of each batch

// work measures a setting in this process, and prints what it finds.
func work(s setting, reload bool) error {
	if err := savedmodel.OpenLibrary(""); err != nil {
		return err
	}
	measure := measureRuns
	if reload {
		measure = measureReloads
	}
	m, err := measure(savedmodel.Options{Optimize: s.Optimize, Kernels: s.Kernels})
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(m)
}

func measureRuns(o savedmodel.Options) (measurement, error) {
	m := measurement{Library: resident()}
	images, err := pixels(1)
	if err != nil {
		return m, err
	}
	defer images.Close()
	begin, cpu := time.Now(), ownCPU()
	model, run, err := load(o)
	if err != nil {
		return m, err
	}
	defer func() { _ = model.Close() }() // its memory is no longer measured
	if err := run(images); err != nil {
		return m, err
	}
	m.First, m.FirstCPU = ms(time.Since(begin)), ms(ownCPU()-cpu)
	if err := run(images); err != nil {
		return m, err
	}
	m.Peak = float64(usage().Maxrss) * 1024 / 1e6 // which is in KiB on Linux
	m.Loaded = resident()
	for _, n := range batches {
		if err := m.batch(n, run); err != nil {
			return m, err
		}
	}
	m.Worked = resident()
	return m, nil
}

// batch times runs of n images after one that is not timed.
func (m *measurement) batch(n int, run func(*savedmodel.Tensor) error) error {
	images, err := pixels(n)
	if err != nil {
		return err
	}
	defer images.Close()
	var wall, cpu []time.Duration
	for i := range 1 + runs {
		begin, used := time.Now(), ownCPU()
		if err := run(images); err != nil {
			return err
		}
		if i > 0 {
			wall, cpu = append(wall, time.Since(begin)), append(cpu, ownCPU()-used)
		}
	}
	m.Run, m.CPU = append(m.Run, ms(median(wall))), append(m.CPU, ms(median(cpu)))
	return nil
}

func measureReloads(o savedmodel.Options) (measurement, error) {
	var m measurement
	images, err := pixels(1)
	if err != nil {
		return m, err
	}
	defer images.Close()
	half := 0.0
	for i := range cycles {
		model, run, err := load(o)
		if err != nil {
			return m, err
		}
		err = run(images)
		if closed := model.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return m, err
		}
		if i == cycles/2-1 {
			half = resident()
		}
	}
	m.AfterCycles = resident()
	m.CyclesGrowth = m.AfterCycles - half
	return m, nil
}

// load opens the model as the options say, which must be possible.
func load(o savedmodel.Options) (*savedmodel.Model, func(*savedmodel.Tensor) error, error) {
	m, err := savedmodel.Load(context.Background(), modelDir, o)
	if err != nil {
		return nil, nil, err
	}
	if o.Optimize && !m.Frozen {
		_ = m.Close()
		return nil, nil, fmt.Errorf("the model is not frozen: %s", m.WhyNot)
	}
	f, err := m.SignatureFunction("serving_default", []string{"images"}, []string{"scores"})
	if err != nil {
		_ = m.Close()
		return nil, nil, err
	}
	return m, func(images *savedmodel.Tensor) error {
		out, err := f.Run(context.Background(), images)
		if err == nil {
			out[0].Close()
		}
		return err
	}, nil
}

// pixels are n images of no particular content, which costs as much as any.
func pixels(n int) (*savedmodel.Tensor, error) {
	t, err := savedmodel.NewTensor(savedmodel.Float32, int64(n), 299, 299, 3)
	if err != nil {
		return nil, err
	}
	view, err := savedmodel.Data[float32](t)
	for i := range view {
		view[i] = float32(i%255) / 255
	}
	return t, err
}

// resident is this process' memory in MB, when both allocators have given
// back what is free.
func resident() float64 {
	debug.FreeOSMemory()
	savedmodel.TrimMemory()
	b, err := os.ReadFile("/proc/self/statm")
	fields := strings.Fields(string(b))
	if err != nil || len(fields) < 2 {
		return 0 // not Linux
	}
	pages, _ := strconv.Atoi(fields[1])
	return float64(pages*os.Getpagesize()) / 1e6
}

func usage() syscall.Rusage {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u
}

func ownCPU() time.Duration {
	u := usage()
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// processor is the model's name.
func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "unknown processor"
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}
