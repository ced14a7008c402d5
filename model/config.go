package model

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"inceptor/model/infer"
	"inceptor/savedmodel"
)

// Config says which model is served and how. The struct tags define the program's flags.
type Config struct {
	// local is a version in this process. local-then-remote also asks the model server of
	// fallback.address while no version in this process can answer. remote asks only that server:
	// neither model.dir nor the TensorFlow library is needed.
	Backend string `default:"local" enum:"local, local-then-remote, remote" help:"What answers: ${enum}." common:""`

	Name string `default:"inception" help:"Name of the model, in every answer." common:""`
	// It is the base directory that TensorFlow Serving uses.
	Dir string `help:"Folder of the versions: DIR/1/saved_model.pb." placeholder:"DIR" common:""`

	// latest:N are the N highest that pass their gates. The highest of them serves, unless another
	// one is chosen with "inceptor models use"; the others are on standby and can serve at once.
	Versions Policy `default:"latest:1" help:"Versions that stay loaded: latest:N, specific:N,N… or all."`
	// That is once it has passed its gates. swap: it serves. canary: it answers model.canary of the
	// keys. shadow: it answers images too, as far as serving leaves time for that, and its answers
	// go to kafka.shadow. Canary and shadow last until "inceptor models use" or "inceptor models
	// rollback".
	Rollout string `default:"swap" enum:"swap, canary, shadow" help:"What a new version does first: ${enum}." common:""`
	// A key always goes to the same version; records without a key are spread.
	Canary float64 `default:"10" help:"Percentage of the keys that a canary answers."`
	// two: the old one answers meanwhile. one: partitions pause, and the old one is drained and
	// unloaded first. auto: two, if the cgroup and the machine have enough memory.
	Copies string `default:"auto" enum:"auto, one, two" help:"Versions in memory while a new one is loaded: ${enum}."`

	Probation Probation `embed:"" prefix:"probation."`
	// It keeps what was chosen with "inceptor models use". Processes that name the same file share
	// what it says. While it cannot be read, the version that serves goes on, and no other one
	// begins to serve. If it cannot be written, changes are lost at a restart. The default is
	// .inceptor.json in model.dir.
	State string `help:"File that keeps which version was chosen or rolled back. Empty: in model.dir." placeholder:"FILE"`

	Batch infer.Batch `embed:"" prefix:"batch."`

	// An optimized graph is faster, takes less memory and loads sooner. It is made for the
	// signatures that are used. If a model cannot be optimized safely, the log says why, and it
	// runs as it is.
	Optimize string `default:"auto" enum:"auto, off" help:"Whether the graph is optimized at load: ${enum}. Scores differ by rounding only."`
	// tensorflow: those that TensorFlow chooses by itself. auto: oneDNN's, if the library has them.
	// "inceptor tune" measures which are faster on this machine.
	Kernels string `default:"auto" enum:"auto, tensorflow, onednn" help:"Convolutions of an optimized graph: ${enum}."`

	// float32: scores differ from TensorFlow's by rounding only. bfloat16: weights of half the
	// size, if the processor has instructions for it. int8: weights of a quarter of the size.
	// auto: the fastest of them on this processor. With int8 and auto a version begins in float32.
	// On records of the stream the others are then calibrated, measured and compared with it, and
	// one serves only if it is faster and its best classes agree for at least 99 % of the records;
	// docs/models.md says how. If a precision is not possible, the log says why, and the model
	// runs in float32.
	Precision   string      `default:"float32" enum:"float32, bfloat16, int8, auto" help:"What convolutions compute in: ${enum}. auto: the fastest."`
	Calibration Calibration `embed:"" prefix:"calibration."`

	// Without file events, as on NFS, a new version is found after this time at most.
	Poll  time.Duration `default:"5s" help:"How often model.dir is scanned for versions, besides at file events."`
	Quiet time.Duration `default:"2s" help:"How long a new version's files must not have changed before it is loaded."`
	Gate  Gate          `embed:"" prefix:"gate."`

	// This is about a JPEG that is at least four times as large as the model's input in both
	// directions. exact decodes it as TensorFlow for Python does. fast scales it by 2 or 4 while
	// it is decoded, and still to at least twice the size of the input: a JPEG of 10 megapixels or
	// more takes a half to two thirds of the time, and is smoother; docs/models.md says how much
	// scores change. It has no effect where images are decoded without TensorFlow's library.
	Decode string `default:"exact" enum:"exact, fast" help:"How large JPEGs are decoded: ${enum}. fast takes less time, and changes scores a little."`
	// These are the pixels that decoding holds at once. Decoding takes 3 bytes a pixel, 6 to 9 for
	// a progressive JPEG (11 in four colours), up to 8 for a WebP, and 6 or 7 for a picture that
	// is turned, cropped or laid on a background. All decodes together take 11 bytes × max-pixels
	// at most (704 MB), or 72 MB for each processor where that is more. Where images are decoded
	// without TensorFlow's library, a pixel takes 27 bytes at most, and an image that may take
	// more than this limit is decoded alone. For photos of 108 or 200 megapixels: 110000000 or
	// 210000000, with 2.3 GB for the latter; see input.max-bytes, too.
	MaxPixels int64 `default:"64000000" help:"Largest image, in pixels. A larger one becomes a dead letter."`

	// Content is what records hold.
	Content infer.Content `kong:"-"`
	// Session is how models and decoders are loaded.
	Session savedmodel.Options `kong:"-"`
	// RunLimit says how long a run may take, by the longest run of the warm-up. Nil: infer's
	// default, the longer of 30 s and 50 times that.
	RunLimit func(longest time.Duration) time.Duration `kong:"-"`
}

// Calibration says how the ranges for int8 are measured.
type Calibration struct {
	// First the version's own (golden images, warm-up requests, assets.extra/calibration), then
	// records of the stream. Only the ranges are kept.
	Records int `default:"256" help:"Records on which the ranges for int8 are measured."`
}

// Probation says how a version that has begun to serve is compared with the one before.
type Probation struct {
	// A new version that meanwhile fails more often or is slower is rolled back automatically, and
	// not tried again until its files change or "inceptor models use" names it; so is a canary at
	// any time. A newer version waits.
	Period time.Duration `default:"30s" help:"How long a new version is compared with the one before, which stays loaded. 0s: not."`
	// That is beyond the part on which the version before failed. It is never rolled back for fewer
	// than five failures.
	Errors float64 `default:"0.1" help:"Part of its images, 0 to 1, on which a version on probation may fail. 1: no limit."`
	// The runs of the version before are the measure, in the median over batches of the same size.
	Slowdown float64 `default:"2" help:"How many times as long the runs of a version on probation may take. 0: no limit."`
}

// A Gate bounds the gates of a version, and adds one.
type Gate struct {
	// A version that takes longer fails.
	Timeout time.Duration `default:"2m" help:"Time for a version to load, warm up and answer its golden images."`
	// It must have the same best class as the version that serves. The last 32 images are kept for
	// it, 64 MiB of them at most; none without this gate.
	Agreement float64 `default:"0" help:"Part of the last images, 0 to 1, on which a new version must agree. 0: none."`
}

// MaxBatch is how many records one run takes at most: Batch.Max or, if that is 0, the default for
// the content.
func (c Config) MaxBatch() int { return cmp.Or(c.Batch.Max, c.Content.MaxBatch()) }

// hasSecondary tells whether a new version is a canary or shadow before it serves.
func (c Config) hasSecondary() bool { return c.Rollout == rolloutCanary || c.Rollout == rolloutShadow }

// Validate returns all problems of the configuration. Each names its key.
func (c Config) Validate() []error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("model."+format, args...))
		}
	}
	check(c.Name != "", "name: must not be empty")
	check(c.Dir != "" || c.Backend == OnlyRemote, "dir: must name the directory of the model's versions")
	check(c.Canary >= 0 && c.Canary <= 100, "canary: %v is not between 0 and 100", c.Canary)
	check(c.Probation.Period >= 0 && c.Probation.Period <= 24*time.Hour, "probation.period: %v is not between 0s and 24h", c.Probation.Period)
	check(c.Probation.Errors >= 0 && c.Probation.Errors <= 1, "probation.errors: %v is not between 0 and 1", c.Probation.Errors)
	check(c.Probation.Slowdown == 0 || c.Probation.Slowdown >= 1, "probation.slowdown: %v is neither 0 nor at least 1", c.Probation.Slowdown)
	check(c.Batch.Max >= 0 && c.Batch.Max <= 1024, "batch.max: %d is not between 0 and 1024", c.Batch.Max)
	check(c.Batch.LatencyBudget >= 0, "batch.latency-budget: %v is negative", c.Batch.LatencyBudget)
	check(c.Precision != precisionBFloat16 && c.Precision != precisionInt8 || c.Optimize == optimizeAuto && c.Kernels != kernelsTensorFlow,
		"precision: %s needs model.optimize auto, and oneDNN's kernels", c.Precision)
	check(c.Precision != precisionInt8 && c.Precision != precisionAuto || c.Calibration.Records >= 1 && c.Calibration.Records <= 100_000,
		"calibration.records: %d is not between 1 and 100000", c.Calibration.Records)
	check(c.Poll >= 10*time.Millisecond && c.Poll <= 24*time.Hour, "poll: %v is not between 10ms and 24h", c.Poll)
	check(c.Quiet >= 0 && c.Quiet <= time.Hour, "quiet: %v is not between 0s and 1h", c.Quiet)
	check(c.Gate.Timeout > 0, "gate.timeout: %v is not positive", c.Gate.Timeout)
	check(c.Gate.Agreement >= 0 && c.Gate.Agreement <= 1, "gate.agreement: %v is not between 0 and 1", c.Gate.Agreement)
	check(c.Copies != copiesOne || !c.hasSecondary() && c.Versions.standby() == 0, "copies: one leaves no room for model.rollout %s and the versions of model.versions beside", c.Rollout)
	check(c.MaxPixels >= 1, "max-pixels: %d is less than 1", c.MaxPixels)
	return errs
}

// Options says how versions are loaded and run. Each version has threads of its own, so that its
// load does not slow down another version's runs.
func (c Config) Options() infer.Options {
	o := infer.Options{
		Model: c.Name, Content: c.Content, Session: c.Session,
		Batch: c.Batch, MaxPixels: c.MaxPixels, RunLimit: c.RunLimit, DecodeFast: c.Decode == decodeFast,
	}
	o.Batch.Max = c.MaxBatch()
	o.Session.OwnThreads = true
	o.Session.Optimize = c.Optimize == optimizeAuto
	switch c.Kernels {
	case kernelsTensorFlow:
		o.Session.Kernels = savedmodel.KernelsTensorFlow
	case kernelsOneDNN:
		o.Session.Kernels = savedmodel.KernelsOneDNN
	}
	o.Session.Precision = sessionPrecision(c.Precision)
	return o
}

// The values of Config.Precision.
const (
	precisionFloat32  = "float32"
	precisionBFloat16 = "bfloat16"
	precisionInt8     = "int8"
	precisionAuto     = "auto"
)

// sessionPrecision returns the precision that a version is opened in if nothing is known of its
// files.
func sessionPrecision(name string) savedmodel.Precision {
	switch name {
	case precisionBFloat16:
		return savedmodel.PrecisionBFloat16
	case precisionInt8:
		return savedmodel.PrecisionInt8
	}
	return savedmodel.PrecisionFloat32
}

// The values of Config.Optimize.
const (
	optimizeAuto = "auto"
	optimizeOff  = "off"
)

// The values of Config.Kernels, besides auto.
const (
	kernelsTensorFlow = "tensorflow"
	kernelsOneDNN     = "onednn"
)

// decodeFast is the value of Config.Decode besides exact.
const decodeFast = "fast"

// The values of Config.Backend.
const (
	OnlyLocal       = "local"
	LocalThenRemote = "local-then-remote"
	OnlyRemote      = "remote"
)

// Folders lists the versions in the model's directory, the highest last. It lists none if Dir is
// empty.
func (c Config) Folders() ([]infer.Folder, error) {
	if c.Dir == "" {
		return nil, nil
	}
	return scan(c.Dir)
}

// AsksServer tells whether a model server is ever asked.
func (c Config) AsksServer() bool { return c.Backend == LocalThenRemote || c.Backend == OnlyRemote }

// Optimizes tells whether versions are optimized at load, where that can be done.
func (c Config) Optimizes() bool { return c.Optimize == optimizeAuto }

// A Policy says which versions are kept loaded, as TensorFlow Serving's ServableVersionPolicy does.
// The zero value is latest:1.
type Policy struct {
	latest   int     // how many, the highest ones; 0 means 1
	specific []int64 // only these numbers; nil: any
}

// Form says how a policy is written.
func (Policy) Form() string { return "latest:N, specific:N,N… or all" }

// UnmarshalText reads "latest:2", "specific:3,5" or "all".
func (p *Policy) UnmarshalText(text []byte) error {
	kind, list, _ := strings.Cut(string(text), ":")
	*p = Policy{}
	switch kind {
	case "all":
		if list != "" {
			return fmt.Errorf("%q is not %s", text, p.Form())
		}
		p.latest = allVersions
	case "latest":
		n, err := strconv.Atoi(list)
		if err != nil || n < 1 || n >= allVersions {
			return fmt.Errorf("%q is not %s", text, p.Form())
		}
		p.latest = n
	case "specific":
		p.latest = allVersions
		for s := range strings.SplitSeq(list, ",") {
			n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 63)
			if err != nil {
				return fmt.Errorf("%q is not %s", text, p.Form())
			}
			p.specific = append(p.specific, int64(n))
		}
	default:
		return fmt.Errorf("%q is not %s", text, p.Form())
	}
	return nil
}

// MarshalText writes the policy as UnmarshalText reads it.
func (p Policy) MarshalText() ([]byte, error) {
	switch {
	case p.specific != nil:
		numbers := make([]string, len(p.specific))
		for i, n := range p.specific {
			numbers[i] = strconv.FormatInt(n, 10)
		}
		return []byte("specific:" + strings.Join(numbers, ",")), nil
	case p.latest == allVersions:
		return []byte("all"), nil
	}
	return fmt.Appendf(nil, "latest:%d", max(1, p.latest)), nil
}

// allVersions is a limit that no directory reaches.
const allVersions = 1 << 30

// allows tells whether a version may be loaded at all.
func (p Policy) allows(version int64) bool {
	return p.specific == nil || slices.Contains(p.specific, version)
}

// standby is how many versions are kept loaded besides those that answer.
func (p Policy) standby() int { return max(0, p.latest-1) }
