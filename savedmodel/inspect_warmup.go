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
	// WarmupFile is the path of the warm-up requests in a version's directory. TensorFlow Serving
	// runs them before it serves the version. It is a TFRecord file of PredictionLog messages
	// (tensorflow.org/tfx/serving/saved_model_warmup).
	WarmupFile = extraDir + "/tf_serving_warmup_requests"
	// MaxWarmupRecords is the largest number of records that TensorFlow Serving accepts.
	MaxWarmupRecords = 1000
	// MaxWarmupRecord is the largest size of a record, in bytes, that this package reads.
	MaxWarmupRecord = 64 << 20

	defaultSignature = "serving_default"
)

// A Warmup describes a version's warm-up file.
type Warmup struct {
	Size       int64          `json:"size"` // bytes
	Records    int            `json:"records"`
	Signatures map[string]int `json:"signatures"` // number of requests by signature
	// Problem says why TensorFlow Serving would refuse the version because of this file, although
	// the file is whole.
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
			w.problem("record %d is not a PredictionLog: %v", w.Records, err)
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

// requestedOf returns the signature that a log's request asks for, and false if there is no
// request. An unknown kind of request counts as one for the default signature.
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

// problem sets Problem, unless it is set already.
func (w *Warmup) problem(format string, args ...any) {
	if w.Problem == "" {
		w.Problem = fmt.Sprintf(format, args...)
	}
}
