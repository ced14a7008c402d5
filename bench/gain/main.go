// Command gain measures what optimizing is worth to Inception v3 as Keras and as TensorFlow 1
// export it: images per second with savedmodel.Options.Optimize, divided by those without, and the
// same of images per second of the processor's time, which other work on the machine changes less.
// Each model is loaded both ways in one process, and the two take turns. A median of the turns'
// quotients is printed for each batch, as Markdown.
//
// Run it in the checkout's folder after `testenv/setup.sh test`:
//
//	go run ./bench/gain -rounds 15
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"inceptor/savedmodel"
)

// A way is one of a model's signatures, and a row of the table.
type way struct {
	Name, Dir        string
	Signature, Input string
	Outputs          []string
}

var (
	rounds  = flag.Int("rounds", 15, "turns of each model")
	zoo     = flag.String("zoo", ".tools/zoo", "where the models of TensorFlow 1 are")
	photos  = flag.String("photos", ".tools/photos", "JPEGs for models that decode them")
	batches = []int{1, 4}
)

func main() {
	flag.Parse()
	ways := []way{
		{"Keras, pixels", "savedmodel/inception/1", "serving_default", "images", []string{"scores"}},
		{"Keras, JPEGs", "savedmodel/inception/1", "serving_bytes", "image_bytes", []string{"scores"}},
		{"slim, pixels", filepath.Join(*zoo, "slim_v3", "1"), "serving_default", "", nil},
		{"TensorFlow Serving's example on slim, JPEGs", filepath.Join(*zoo, "classic_v3", "1"), "predict_images", "images", nil},
	}
	fmt.Print("| Inception v3 |")
	for _, n := range batches {
		fmt.Printf(" batch of %d: CPU ms plain | CPU ms optimized | optimized ÷ plain, images/s | of the processor's time |", n)
	}
	fmt.Println("\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, w := range ways {
		if err := w.measure(); err != nil {
			fmt.Fprintln(os.Stderr, "gain:", w.Name+":", err)
			os.Exit(1)
		}
	}
}

// measure prints a row.
func (w way) measure() error {
	plain, err := w.load(false)
	if err != nil {
		return err
	}
	defer func() { _ = plain.Close() }() // the process ends soon
	optimized, err := w.load(true)
	if err != nil {
		return err
	}
	defer func() { _ = optimized.Close() }()
	fmt.Printf("| %s |", w.Name)
	for _, n := range batches {
		if err := w.compare(plain, optimized, n); err != nil {
			return err
		}
	}
	fmt.Println()
	return nil
}

func (w way) load(optimize bool) (*savedmodel.Model, error) {
	m, err := savedmodel.Load(context.Background(), w.Dir, savedmodel.Options{Optimize: optimize})
	if err == nil && optimize && !m.Frozen {
		err = errors.Join(fmt.Errorf("it is not optimized: %s", m.WhyNot), m.Close())
	}
	return m, err
}

// compare runs n images in turn with each model, and prints three cells.
func (w way) compare(plain, optimized *savedmodel.Model, n int) error {
	var functions [2]*savedmodel.Function
	for i, m := range []*savedmodel.Model{plain, optimized} {
		s, err := m.Signature(w.Signature)
		if err != nil {
			return err
		}
		input, outputs := w.Input, w.Outputs
		for key := range s.Inputs {
			if input == "" {
				input = key
			}
		}
		for key := range s.Outputs {
			if w.Outputs == nil {
				outputs = append(outputs, key)
			}
		}
		if functions[i], err = m.SignatureFunction(w.Signature, []string{input}, outputs); err != nil {
			return err
		}
		w.Input = input
	}
	s, _ := plain.Signature(w.Signature) // which was found above
	images, err := batch(s.Inputs[w.Input].DType, *photos, n)
	if err != nil {
		return err
	}
	defer images.Close()
	var wall, cpu [2][]float64
	var gains, gainsCPU []float64
	for round := range *rounds + 2 { // the first two only warm up
		for turn := range functions {
			turn = (turn + round) % 2
			begin, used := time.Now(), ownCPU()
			out, err := functions[turn].Run(context.Background(), images)
			if err != nil {
				return err
			}
			for _, t := range out {
				t.Close()
			}
			if round >= 2 {
				wall[turn] = append(wall[turn], time.Since(begin).Seconds())
				cpu[turn] = append(cpu[turn], (ownCPU() - used).Seconds())
			}
		}
		if round >= 2 {
			gains = append(gains, wall[0][round-2]/wall[1][round-2])
			gainsCPU = append(gainsCPU, cpu[0][round-2]/cpu[1][round-2])
		}
	}
	fmt.Printf(" %.0f | %.0f | %.2f | %.2f |", 1000*median(cpu[0]), 1000*median(cpu[1]), median(gains), median(gainsCPU))
	return nil
}

// batch is n images: pixels of no particular content, or photos.
func batch(dtype savedmodel.DataType, photos string, n int) (*savedmodel.Tensor, error) {
	if dtype != savedmodel.String {
		t, err := savedmodel.NewTensor(dtype, int64(n), 299, 299, 3)
		if err != nil {
			return nil, err
		}
		view, err := savedmodel.Data[float32](t)
		for i := range view {
			view[i] = float32(i%255) / 255
		}
		return t, err
	}
	names, err := filepath.Glob(filepath.Join(photos, "*.jpg"))
	if err != nil || len(names) == 0 {
		return nil, errors.Join(err, fmt.Errorf("no JPEGs in %s", photos))
	}
	images := make([][]byte, n)
	for i := range images {
		if images[i], err = os.ReadFile(names[i%len(names)]); err != nil {
			return nil, err
		}
	}
	return savedmodel.NewStringTensor(images, int64(n))
}

// ownCPU is the processor's time that this process has taken.
func ownCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // which cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}
