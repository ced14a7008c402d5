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

// outside is the raw loop of another library. Its process waits for orders, so that both take
// turns.
type outside struct {
	*exec.Cmd
	orders  io.WriteCloser
	results io.Reader
	log     bytes.Buffer
}

// newOutside starts the process. It answers when its model is loaded and warm.
func newOutside(int8 bool) (*outside, error) {
	onnxModel := ".tools/onnx/inception.onnx"
	if int8 {
		onnxModel = ".tools/onnx/inception-int8.onnx"
	}
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

// run runs batches of n for about this long. It returns the number of images and the seconds they
// took.
func (o *outside) run(n int, d time.Duration) (images, seconds float64, err error) {
	if _, err = fmt.Fprintln(o.orders, n, d.Seconds()); err == nil {
		_, err = fmt.Fscanln(o.results, &images, &seconds)
	}
	if err != nil {
		o.close() // completes its log
		return 0, 0, fmt.Errorf("bench/outside.py: %w\n%s", err, o.log.String())
	}
	return images, seconds, nil
}

// close ends the process: it ends when there are no more orders.
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
