package savedmodel

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	"inceptor/savedmodel/tfpb"
)

const (
	// WarmupFile is the path, below a version's directory, of the requests
	// that TensorFlow Serving sends through a model before it serves: a
	// TFRecord file of PredictionLog messages
	// (tensorflow.org/tfx/serving/saved_model_warmup).
	WarmupFile = extraDir + "/tf_serving_warmup_requests"
	// MaxWarmupRecords is the most records that TensorFlow Serving takes.
	MaxWarmupRecords = 1000
	// MaxWarmupRecord is the most bytes that a record may have here.
	MaxWarmupRecord = 64 << 20

	defaultSignature = "serving_default"
)

// A Warmup is what a version's warm-up file holds.
type Warmup struct {
	Size       int64          `json:"size"` // bytes
	Records    int            `json:"records"`
	Signatures map[string]int `json:"signatures"` // requests by signature
	// Problem says why TensorFlow Serving would not load the version with this
	// file, though the file is whole.
	Problem string `json:"problem,omitempty"`
}

func (in *inspector) warmup() error {
	_, err := in.read(WarmupFile, func(f *os.File, size int64) error {
		w := &Warmup{Size: size, Signatures: make(map[string]int)}
		in.info.Warmup = w
		return w.read(bufio.NewReaderSize(f, 64<<10))
	})
	return err
}

func (w *Warmup) read(r io.Reader) error {
	records := NewTFRecordReader(r, MaxWarmupRecord)
	var log tfpb.PredictionLog
	for ; ; w.Records++ {
		b, err := records.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if w.Records == MaxWarmupRecords {
			w.problem("more than %d records", MaxWarmupRecords)
			return nil
		}
		if err := proto.Unmarshal(b, &log); err != nil {
			w.problem("record %d is no PredictionLog: %v", w.Records, err)
			continue
		}
		spec, ok := requestedOf(&log)
		if !ok {
			w.problem("record %d holds no Predict request", w.Records)
			continue
		}
		w.Signatures[cmp.Or(spec.GetSignatureName(), defaultSignature)]++
	}
}

// requestedOf is what a log's request asks for; false: there is none. Requests of
// kinds that are not read here count as those for the default signature.
func requestedOf(log *tfpb.PredictionLog) (*tfpb.ModelSpec, bool) {
	switch {
	case log.GetPredictLog().GetRequest() != nil:
		return log.GetPredictLog().GetRequest().GetModelSpec(), true
	case log.GetClassifyLog().GetRequest() != nil:
		return log.GetClassifyLog().GetRequest().GetModelSpec(), true
	case log.GetRegressLog().GetRequest() != nil:
		return log.GetRegressLog().GetRequest().GetModelSpec(), true
	}
	return nil, len(log.ProtoReflect().GetUnknown()) > 0
}

// problem keeps the first one.
func (w *Warmup) problem(format string, args ...any) {
	if w.Problem == "" {
		w.Problem = fmt.Sprintf(format, args...)
	}
}
