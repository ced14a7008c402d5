package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"inceptor/bench/measure"
)

const onnxModel = ".tools/onnx/inception.onnx"

// outside is the raw loop of another library, in a process that waits to be
// told what to run, so that both take turns.
type outside struct {
	*exec.Cmd
	orders  io.WriteCloser
	results io.Reader
	log     bytes.Buffer
}

// newOutside starts the process. It answers when its model is loaded and warm.
func newOutside() (*outside, error) {
	if _, err := os.Stat(onnxModel); err != nil {
		return nil, fmt.Errorf("%w: run `testenv/setup.sh bench`", err)
	}
	o := &outside{Cmd: exec.Command(".tools/venv/bin/python", "-B", "bench/outside.py", "run", onnxModel)}
	o.Env = append(os.Environ(), "PYTHONPATH=.tools/rivals")
	o.Stderr = &o.log
	var err error
	if o.orders, err = o.StdinPipe(); err != nil {
		return nil, err
	}
	if o.results, err = o.StdoutPipe(); err != nil {
		return nil, err
	}
	if err := o.Start(); err != nil {
		return nil, err
	}
	_, _, err = o.run(1, 0)
	return o, err
}

// run runs batches of n for so long, about. It returns how many images that
// were, and how long it took.
func (o *outside) run(n int, d time.Duration) (images, seconds float64, err error) {
	if _, err = fmt.Fprintln(o.orders, n, d.Seconds()); err == nil {
		_, err = fmt.Fscanln(o.results, &images, &seconds)
	}
	if err != nil {
		o.close() // now its log is whole
		return 0, 0, fmt.Errorf("bench/outside.py: %w\n%s", err, o.log.String())
	}
	return images, seconds, nil
}

// close ends the process, which reads no more orders.
func (o *outside) close() {
	_ = o.orders.Close()
	_ = o.Wait()
}

// outsideRun runs one batch after the other.
func (b *bench) outsideRun(n int, d time.Duration) error {
	cpu := measure.ProcessCPU(b.outside.Process.Pid)
	images, seconds, err := b.outside.run(n, d)
	if err != nil {
		return err
	}
	b.results.Add(outsideRate(n), images/seconds)
	b.results.Add(outsideCPU(n), (measure.ProcessCPU(b.outside.Process.Pid)-cpu).Seconds()/images)
	return nil
}
