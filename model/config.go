package model

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"inceptor/savedmodel"
)

// Config says which model is served and how. The tags are those of the
// program's flags.
type Config struct {
	Backend string `default:"local" enum:"local,local-then-remote,remote" help:"What answers: local (a version in this process), local-then-remote (the model server of fallback.address, while no version here can) or remote (that server alone: neither model.dir nor the TensorFlow library is needed)."`

	Name string `default:"inception" help:"Name of the model, which every answer carries."`
	Dir  string `help:"Base directory of the model's versions: DIR/VERSION/saved_model.pb, as for TensorFlow Serving." placeholder:"DIR"`

	Versions Policy  `default:"latest:1" help:"Versions that are kept loaded: latest:N (the N highest that pass their gates), specific:3,5 (these) or all. The highest of them serves, unless another one is chosen with \"inceptor models use\"; the others are there at once when they are needed."`
	Rollout  string  `default:"swap" enum:"swap,canary,shadow" help:"What becomes of a new version that has passed its gates: swap (it serves), canary (it answers model.canary of the keys) or shadow (it sees every image that time is left for, and its answers go to kafka.shadow). Canary and shadow last until \"inceptor models use\" or \"inceptor models rollback\"."`
	Canary   float64 `default:"10" help:"Percentage of the keys that a canary answers. A key stays with one version; records without a key are spread."`
	Copies   string  `default:"auto" enum:"auto,one,two" help:"Versions in memory while a new one is loaded: two (images are answered meanwhile), one (partitions pause: the old one is drained and unloaded first) or auto (two, where the cgroup and the machine have room for it)."`

	Probation Probation `embed:"" prefix:"probation."`
	State     string    `help:"File that keeps what was chosen with \"inceptor models use\" and which versions were taken back. Processes that name the same file follow it together. While it cannot be read, what serves goes on, and no other version begins to. Empty: .inceptor.json in model.dir; where that cannot be written, a restart forgets." placeholder:"FILE"`

	Batch Batch `embed:"" prefix:"batch."`

	Optimize string `default:"auto" enum:"auto,off" help:"What is run: auto (a graph made of the model at load, for its signatures alone: faster, smaller and sooner there, equal but for rounding; where that cannot be done safely, the log says why, and the model runs as it is) or off (the model as it is)."`
	Kernels  string `default:"auto" enum:"auto,tensorflow,onednn" help:"Whose convolutions model.optimize=auto calls: onednn, tensorflow (those that TensorFlow chooses by itself) or auto (oneDNN's, where the library has them). \"inceptor tune\" measures which are the faster ones here."`

	Precision string `default:"float32" enum:"float32,bfloat16,auto" help:"What oneDNN's convolutions compute in: float32 (equal to TensorFlow's but for rounding), bfloat16 (where the processor has instructions for it: faster, with weights of half the size; scores change by more than rounding, see docs/models.md) or auto (bfloat16 for a version that answers its golden images as it should in bfloat16, float32 for one that does not or has none). Where bfloat16 is not to be had, the log says why, and the model runs in float32."`

	Poll  time.Duration `default:"5s" help:"How often versions are looked for, besides at each file event. Where there are none, as on NFS, a new version is found this much later at most."`
	Quiet time.Duration `default:"2s" help:"How long a new version's files must have rested before it is looked at."`
	Gate  Gate          `embed:"" prefix:"gate."`

	Decode    string `default:"exact" enum:"exact,fast" help:"How a JPEG is decoded that is at least four times as large as the model's input in both directions: exact (as TensorFlow for Python does) or fast (scaled by 2 or 4 on the way, and still at least twice as large as the input: in a half to two thirds of the time for one of 10 megapixels or more, and smoother; docs/models.md has how far scores move). Where TensorFlow decodes, that is."`
	MaxPixels int64  `default:"64000000" help:"Largest image, in pixels that decoding holds at once; a larger one is a dead letter. Decoding takes 3 bytes a pixel, 6 to 9 for a progressive JPEG (11 in four colours), up to 8 for a WebP, and 6 or 7 for a picture that is turned, cropped or laid on a background. All decodes together take 11 bytes × max-pixels at most (704 MB), or 72 MB for each processor where that is more. Where images are decoded without TensorFlow's library, a pixel takes 27 bytes at most, and an image that may take more than all that is decoded alone. For photos of 108 or 200 megapixels: 110000000 or 210000000, with 2.3 GB for the latter; see input.max-bytes, too."`

	// Content is what records hold.
	Content Content `kong:"-"`
	// Session is how models and decoders are loaded.
	Session savedmodel.Options `kong:"-"`
}

// Probation says how a version that has begun to serve is watched.
type Probation struct {
	Period   time.Duration `default:"30s" help:"How long the version before stays loaded after a switch. A version that fares worse than it is taken back meanwhile, by itself, and not tried again until its files change; the same holds for a canary as long as it is one. A newer version waits. 0s: no probation."`
	Errors   float64       `default:"0.1" help:"Part of its images that a version on probation may fail on, 0 to 1, beyond what the version before failed on; five must have failed before it is taken back. 1: any."`
	Slowdown float64       `default:"2" help:"How many times as long its runs may take as those of the version before, in the median over equal batches. 0: any."`
}

// Gate says what a version must pass.
type Gate struct {
	Timeout   time.Duration `default:"2m" help:"Time for a version to load, warm up and answer its golden images; one that takes longer is refused."`
	Agreement float64       `default:"0" help:"Part of the last images, 0 to 1, on which a new version must have the best class of the version that serves. 0: it is not asked, and no image is kept for it."`
	Images    int           `default:"32" help:"Images that are kept for model.gate.agreement, 64 MiB of them at most."`
}

// Batch says how images are joined.
type Batch struct {
	Max   int           `default:"0" help:"Images that run together, at most; a second full batch may run beside the first. 0: 4 images, or 256 of what input.format tensor-json or example reads."`
	Delay time.Duration `default:"0s" help:"How long a batch that is not full waits for more images. 0s: not at all; company gathers while the batch before runs, and longer than that no batch waits that is not full."`

	LatencyBudget time.Duration `default:"0s" help:"What a record should take in the model under load: batches become smaller until a run takes half of that, for a record may have to wait for the run before its own, and larger again. Behind a backlog it waits for longer. 0s: any time."`
}

// MaxBatch is Batch.Max, or what stands for 0 there.
func (c Config) MaxBatch() int { return cmp.Or(c.Batch.Max, c.Content.maxBatch()) }

// beside tells whether a new version first answers beside the one that serves.
func (c Config) beside() bool { return c.Rollout == rolloutCanary || c.Rollout == rolloutShadow }

// Validate returns every problem, each naming its key.
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
	check(c.Batch.Delay >= 0 && c.Batch.Delay <= time.Minute, "batch.delay: %v is not between 0s and 1m", c.Batch.Delay)
	check(c.Batch.LatencyBudget >= 0, "batch.latency-budget: %v is negative", c.Batch.LatencyBudget)
	check(c.Precision != precisionBFloat16 || c.Optimize == optimizeAuto && c.Kernels != kernelsTensorFlow, "precision: bfloat16 needs model.optimize auto, and oneDNN's kernels")
	check(c.Poll >= 10*time.Millisecond && c.Poll <= 24*time.Hour, "poll: %v is not between 10ms and 24h", c.Poll)
	check(c.Quiet >= 0 && c.Quiet <= time.Hour, "quiet: %v is not between 0s and 1h", c.Quiet)
	check(c.Gate.Timeout > 0, "gate.timeout: %v is not positive", c.Gate.Timeout)
	check(c.Gate.Agreement >= 0 && c.Gate.Agreement <= 1, "gate.agreement: %v is not between 0 and 1", c.Gate.Agreement)
	check(c.Gate.Agreement == 0 || c.Gate.Images >= 1 && c.Gate.Images <= 10_000, "gate.images: %d is not between 1 and 10000", c.Gate.Images)
	check(c.Copies != copiesOne || !c.beside() && c.Versions.spares() == 0, "copies: one leaves no room for model.rollout %s and the versions of model.versions beside", c.Rollout)
	check(c.MaxPixels >= 1, "max-pixels: %d is less than 1", c.MaxPixels)
	return errs
}

// session is how versions are loaded: with threads of their own, which do not
// disturb those of another one.
func (c Config) session() savedmodel.Options {
	o := c.Session
	o.OwnThreads = true
	o.Optimize = c.Optimize == optimizeAuto
	switch c.Kernels {
	case kernelsTensorFlow:
		o.Kernels = savedmodel.KernelsTensorFlow
	case kernelsOneDNN:
		o.Kernels = savedmodel.KernelsOneDNN
	}
	if c.Precision == precisionBFloat16 || c.Precision == precisionAuto {
		o.Precision = savedmodel.PrecisionBFloat16
	}
	return o
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

// decodeFast is Config.Decode's other value.
const decodeFast = "fast"

// The values of Config.Backend.
const (
	OnlyLocal       = "local"
	LocalThenRemote = "local-then-remote"
	OnlyRemote      = "remote"
)

// AsksServer tells whether a model server is ever asked.
func (c Config) AsksServer() bool { return c.Backend == LocalThenRemote || c.Backend == OnlyRemote }

// Optimizes tells whether a faster graph is made of a version where that can be
// done.
func (c Config) Optimizes() bool { return c.Optimize == optimizeAuto }

// A Policy says which versions are kept loaded, as TensorFlow Serving's
// ServableVersionPolicy does. The zero value is latest:1.
type Policy struct {
	latest   int     // so many, the highest; 0 is 1
	specific []int64 // of these; nil: of all
}

var errPolicy = errors.New("is not latest:N, specific:N,N… or all")

// UnmarshalText reads "latest:2", "specific:3,5" or "all".
func (p *Policy) UnmarshalText(text []byte) error {
	kind, list, _ := strings.Cut(string(text), ":")
	*p = Policy{}
	switch kind {
	case "all":
		if list != "" {
			return fmt.Errorf("%q %w", text, errPolicy)
		}
		p.latest = allVersions
	case "latest":
		n, err := strconv.Atoi(list)
		if err != nil || n < 1 || n >= allVersions {
			return fmt.Errorf("%q %w", text, errPolicy)
		}
		p.latest = n
	case "specific":
		p.latest = allVersions
		for s := range strings.SplitSeq(list, ",") {
			n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 63)
			if err != nil {
				return fmt.Errorf("%q %w", text, errPolicy)
			}
			p.specific = append(p.specific, int64(n))
		}
	default:
		return fmt.Errorf("%q %w", text, errPolicy)
	}
	return nil
}

// allVersions is more than there are.
const allVersions = 1 << 30

// allows tells whether a version may be loaded at all.
func (p Policy) allows(version int64) bool {
	return p.specific == nil || slices.Contains(p.specific, version)
}

// spares is how many versions are kept loaded besides those that answer.
func (p Policy) spares() int { return max(0, p.latest-1) }
