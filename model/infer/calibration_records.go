package infer

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"inceptor/savedmodel"
)

// CalibrationFolder may lie in a version's directory, with records to measure ranges for int8 with:
// a file is a record, or a TFRecord file of records if its name ends with .tfrecord. A record of a
// version that takes images may also be a tf.Example with the image in the feature image/encoded.
const CalibrationFolder = "assets.extra/calibration"

// AddOwn adds records of the version itself, and returns how many: its golden images, its warm-up
// requests, and those in CalibrationFolder, until there are so many. A record that cannot be read
// or answered is skipped, and one line of the log says so. An error means that ctx has ended, or
// that the model failed for another reason.
func (c *Calibrator) AddOwn(ctx context.Context, most int) (added int, err error) {
	o := ownRecords{Calibrator: c, most: c.seen + most}
	before := c.seen
	for _, add := range []func(context.Context) error{o.golden, o.warmUp, o.folder} {
		if err = add(ctx); err != nil {
			break
		}
	}
	if o.skipped > 0 {
		c.v.log.Warn("own records of the version are not used for its ranges for int8",
			"model", c.v.info.Model, "version", c.v.info.Version, "records", o.skipped, "first", o.first)
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return c.seen - before, err
}

// errEnough ends the search for records.
var errEnough = errors.New("there are enough records")

// ownRecords finds the records of a version for its Calibrator.
type ownRecords struct {
	*Calibrator
	most    int   // of seen
	skipped int   // records or files
	first   error // of them
}

// use adds a record of the version. The error ends the search.
func (o *ownRecords) use(ctx context.Context, name string, content []byte) error {
	return o.note(name, o.Add(ctx, content))
}

// note takes the error of a record or file, which is skipped then. It returns an error that ends
// the search.
func (o *ownRecords) note(name string, err error) error {
	var (
		record *InputError
		file   *fs.PathError
	)
	switch {
	case err == nil && o.seen >= o.most:
		return errEnough
	case err == nil:
		return nil
	case errors.As(err, &record), errors.As(err, &file), errors.Is(err, savedmodel.ErrMalformed), errors.Is(err, errOwnRecord):
		o.skipped++
		if o.first == nil {
			o.first = fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

// errOwnRecord says that a record is none that the version takes.
var errOwnRecord = errors.New("not used")

func (o *ownRecords) golden(ctx context.Context) error {
	list, err := readGolden(o.v.dir)
	if err != nil {
		return o.note(GoldenFile, fmt.Errorf("%w: %w", errOwnRecord, err))
	}
	for _, g := range list {
		content, err := g.read(o.v.dir)
		if err != nil {
			err = o.note(g.Image, fmt.Errorf("%w: %w", errOwnRecord, err))
		} else {
			err = o.use(ctx, g.Image, content)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *ownRecords) warmUp(ctx context.Context) error {
	const name = savedmodel.WarmupFile
	return o.records(ctx, filepath.Join(o.v.dir, name), name, func(record []byte) error {
		return o.note(name, o.request(ctx, record))
	})
}

// request adds the records of a warm-up request.
func (o *ownRecords) request(ctx context.Context, record []byte) error {
	keys, tensors, err := requestTensors(o.v, record)
	if err != nil {
		return fmt.Errorf("%w: %w", errOwnRecord, err)
	}
	defer closeTensors(tensors)
	inputs := make([]*savedmodel.Tensor, 0, len(keys))
	for _, key := range o.v.sig.inputs() {
		if at := slices.Index(keys, key); at >= 0 {
			inputs = append(inputs, tensors[at])
		}
	}
	if len(inputs) == 0 {
		return nil // of another signature
	}
	if len(inputs) != len(o.v.sig.feeds) {
		return fmt.Errorf("%w: it has not all inputs that records have", errOwnRecord)
	}
	got, err := o.run.call(ctx, inputs)
	if err == nil {
		o.seen += got.records()
	}
	return blameInput(err, ReasonModelRefused)
}

// folder adds the records in CalibrationFolder, in the order of their paths.
func (o *ownRecords) folder(ctx context.Context) error {
	top := filepath.Join(o.v.dir, CalibrationFolder)
	files := 0
	return filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && path == top:
			return nil
		case err != nil:
			return o.note(path, err)
		case e.IsDir(), strings.HasPrefix(e.Name(), "."):
			return nil
		}
		if files++; files > MaxFiles {
			return errEnough
		}
		if strings.HasSuffix(path, ".tfrecord") {
			return o.records(ctx, path, path, func(record []byte) error { return o.use(ctx, path, o.content(record)) })
		}
		content, err := readVersionFile(path, maxGoldenBytes)
		if err != nil {
			return o.note(path, fmt.Errorf("%w: %w", errOwnRecord, err))
		}
		return o.use(ctx, path, content)
	})
}

// records calls f with each record of a TFRecord file, if there is one, until ctx ends or f returns
// an error.
func (o *ownRecords) records(ctx context.Context, path, name string, f func(record []byte) error) error {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return o.note(name, err)
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return o.note(name, fmt.Errorf("%w: it is not a file (%v)", errOwnRecord, err)) //nolint:errorlint // nil mostly
	}
	r := savedmodel.NewTFRecordReader(bufio.NewReader(file), savedmodel.MaxWarmupRecord)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return o.note(name, fmt.Errorf("%w: %w", errOwnRecord, err))
		}
		if err := f(record); err != nil {
			return err
		}
	}
}

// content returns what a version takes of a record in a TFRecord file.
func (o *ownRecords) content(record []byte) []byte {
	if o.v.sig.content.Image() {
		if image := imageOf(record); image != nil {
			return image
		}
	}
	return record
}

// imageOf returns the value of the feature image/encoded of a serialized tf.Example; nil: it is
// none, or has no such feature.
func imageOf(example []byte) (image []byte) {
	const name = "image/encoded"
	eachField(example, exampleFeatures, func(features []byte) {
		eachField(features, featuresEntry, func(entry []byte) {
			named := false
			eachField(entry, entryKey, func(key []byte) { named = string(key) == name })
			if !named {
				return
			}
			eachField(entry, entryValue, func(feature []byte) {
				eachField(feature, featureBytes, func(list []byte) {
					eachField(list, bytesValue, func(value []byte) { image = value })
				})
			})
		})
	})
	return image
}

// eachField calls f with the content of each field of a message that has this number and holds
// bytes. It ends where the message is damaged.
func eachField(message []byte, number protowire.Number, f func(content []byte)) {
	for len(message) > 0 {
		num, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return
		}
		message = message[n:]
		if num == number && kind == protowire.BytesType {
			content, n := protowire.ConsumeBytes(message)
			if n < 0 {
				return
			}
			f(content)
			message = message[n:]
			continue
		}
		if n = protowire.ConsumeFieldValue(num, kind, message); n < 0 {
			return
		}
		message = message[n:]
	}
}
