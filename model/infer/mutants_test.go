package infer

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"inceptor/testenv/corpus"
)

const (
	// mutantsEnv takes all of corpus.Mutants, instead of some.
	mutantsEnv  = "INCEPTOR_MUTANTS" // all
	someMutants = 3000

	// mutantPixels is the cap that they are decoded under, and mutantMemory what
	// a decode under it may take: worstPixel, and some buffers.
	mutantPixels = 2_000_000
	mutantMemory = worstPixel*mutantPixels + 8<<20

	// oracleMemory is what TensorFlow may take of what is refused here.
	oracleMemory = 1 << 30
)

// Images with a changed field crash nothing and cost no memory, whatever they
// declare. What TensorFlow decodes is answered, or refused for a reason that is
// this package's own; what is refused for being broken, TensorFlow refuses too.
func TestMutants(t *testing.T) {
	all := os.Getenv(mutantsEnv) == "all"
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	total := 0
	for range corpus.Mutants() {
		total++
	}
	t.Logf("seed %d, %d mutants", seed, total)

	j := newMutantJudge(t)
	for name, image := range corpus.Mutants() {
		if all || random.IntN(total) < someMutants {
			j.judge(name, image)
		}
	}
	j.close()
}

type mutantJudge struct {
	t                 *testing.T
	ours, theirs      *decodeChild
	crashes           int // of TensorFlow's child
	reasons           map[string]int
	largest           int64
	slowest           time.Duration
	largestIs, slowIs string
	answered, faults  int
}

func newMutantJudge(t *testing.T) *mutantJudge {
	return &mutantJudge{
		t: t, reasons: map[string]int{},
		ours:   startDecodeChild(t, byThisPackage, 8<<30, mutantPixels),
		theirs: startDecodeChild(t, byTensorFlow, oracleMemory, mutantPixels),
	}
}

func (j *mutantJudge) judge(name string, image []byte) {
	ours, ok := j.ours.decode(image)
	if !ok {
		j.fault(name, "crashed the process: %v", j.ours.close())
		j.ours = startDecodeChild(j.t, byThisPackage, 8<<30, mutantPixels)
		return
	}
	if ours.Peak > j.largest {
		j.largest, j.largestIs = ours.Peak, name
	}
	if ours.Took > j.slowest {
		j.slowest, j.slowIs = ours.Took, name
	}
	if ours.Peak > mutantMemory+int64(len(image)) {
		j.fault(name, "took %d MB", ours.Peak>>20)
	}
	theirs, ok := j.theirs.decode(image)
	if !ok {
		j.crashes++
		_ = j.theirs.close()
		j.theirs = startDecodeChild(j.t, byTensorFlow, oracleMemory, mutantPixels)
		theirs.Reason, theirs.Error = "crash", "TensorFlow has crashed"
	}
	if ours.Reason == "" {
		j.answered++
	} else {
		j.reasons[ours.Reason]++
	}
	if why := untrue(ours, theirs); why != "" {
		j.fault(name, "%s\n\there: %q %s\n\tTensorFlow: %q %s", why, ours.Reason, brief(ours.Error), theirs.Reason, brief(theirs.Error))
	}
}

// untrue is what is wrong with how an image was taken, beside TensorFlow's own
// DecodeImage; empty: nothing.
func untrue(ours, theirs decoded) string {
	decodes, h := theirs.Reason == "", ours.Header
	switch ours.Reason {
	case "":
		// WebP with alpha and animated WebP are more than DecodeImage takes.
		if !decodes && h.Format != "webp" {
			return "answered, and TensorFlow refuses it"
		}
		// Of a GIF that is broken in a later frame, only the frames before it are decoded.
		if decodes && h.Frames == 1 && (h.Width != theirs.Width || h.Height != theirs.Height) {
			return fmt.Sprintf("answered as %d×%d, and TensorFlow decodes %d×%d", h.Width, h.Height, theirs.Width, theirs.Height)
		}
	case ReasonTooManyPixels:
		if h.Pixels <= mutantPixels {
			return fmt.Sprintf("%d pixels are not too many", h.Pixels)
		}
		if decodes && h.Frames == 1 && int64(theirs.Width)*int64(theirs.Height) <= mutantPixels {
			return fmt.Sprintf("TensorFlow decodes %d×%d", theirs.Width, theirs.Height)
		}
	case ReasonTooComplex:
		if !strings.Contains(ours.Error, "over") && !strings.Contains(ours.Error, "more than") {
			return "names no limit"
		}
	case ReasonNotAnImage, ReasonUnsupported, ReasonBadHeader, ReasonUndecodable:
		if decodes {
			return "refused, and TensorFlow decodes it"
		}
	default:
		return "not blamed on the image"
	}
	return ""
}

func (j *mutantJudge) fault(name, format string, args ...any) {
	if j.faults++; j.faults <= 50 {
		j.t.Errorf("%s: %s", name, fmt.Sprintf(format, args...))
	}
}

func (j *mutantJudge) close() {
	if err := j.ours.close(); err != nil {
		j.t.Error(err)
	}
	_ = j.theirs.close()
	j.t.Logf("%d answered, %v; TensorFlow crashed on %d; at most %d MB (%s), %s (%s)",
		j.answered, j.reasons, j.crashes, j.largest>>20, j.largestIs, j.slowest, j.slowIs)
	if j.faults > 0 {
		j.t.Errorf("%d faults", j.faults)
	}
}

func brief(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s[:min(len(s), 150)]
}
