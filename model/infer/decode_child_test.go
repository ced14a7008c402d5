package infer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"inceptor/model/internal/graphdef"
	"inceptor/model/internal/modeltest"
	"inceptor/savedmodel"
	"inceptor/savedmodel/tfpb"
	"inceptor/testenv"
)

// The values of the variable childEnv, which says what a child process of this test does.
const (
	childEnv      = "INCEPTOR_TEST_DECODES"
	byTensorFlow  = "tensorflow" // DecodeImage, whatever the image is
	byThisPackage = "package"    // the header first, then the decoder, as for a record
)

// A decoded is the result of one image from a child.
type decoded struct {
	Header        Header // zero where the header was refused, or not looked at
	Reason        string // of the InputError; "" where the image was decoded
	Error         string
	Width, Height int   // of what DecodeImage made; only byTensorFlow
	Peak          int64 // bytes by which the process grew while it decoded
	Took          time.Duration
}

// A decodeChild is a process that decodes images one by one. A crash does not end the test, and
// the memory of one decode can be measured.
type decodeChild struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// startDecodeChild starts a child with a limit on the address space that it may use in addition
// to TensorFlow's library.
func startDecodeChild(t testing.TB, by string, most, maxPixels int64) *decodeChild {
	t.Helper()
	c := &decodeChild{t: t, cmd: exec.Command(os.Args[0])}
	c.cmd.Env = append(os.Environ(), childEnv+"="+by, "TF_CPP_MIN_LOG_LEVEL=3", "MALLOC_ARENA_MAX=2",
		fmt.Sprintf("INCEPTOR_TEST_LIBRARY=%s", testenv.TensorFlow(t)),
		fmt.Sprintf("INCEPTOR_TEST_MEMORY=%d", most), fmt.Sprintf("INCEPTOR_TEST_PIXELS=%d", maxPixels))
	c.cmd.Stderr = io.Discard
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.out = bufio.NewReader(out)
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return c
}

// decode sends one image. If ok is false, the image has ended the child, which cannot be used
// any more.
func (c *decodeChild) decode(image []byte) (d decoded, ok bool) {
	c.t.Helper()
	_, err := c.in.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(image))), image...))
	line, readErr := c.out.ReadBytes('\n')
	if err != nil || readErr != nil {
		return decoded{}, false
	}
	if err := json.Unmarshal(line, &d); err != nil {
		c.t.Fatalf("%s: %v", line, err)
	}
	return d, true
}

// close ends the child, and returns its error.
func (c *decodeChild) close() error {
	_ = c.in.Close()
	return c.cmd.Wait()
}

// runDecodeChild is the main function of the child.
func runDecodeChild(by string) error {
	if err := savedmodel.OpenLibrary(os.Getenv("INCEPTOR_TEST_LIBRARY")); err != nil {
		return err
	}
	decode, err := childDecoder(by)
	if err != nil {
		return err
	}
	// The first decode sets up thread pools.
	if _, err := decode(modeltest.BlackImage); err != nil {
		return err
	}
	most, err := strconv.ParseUint(os.Getenv("INCEPTOR_TEST_MEMORY"), 10, 64)
	if err != nil {
		return err
	}
	limit := uint64(memoryOf("VmSize")) + most
	if err := syscall.Setrlimit(syscall.RLIMIT_AS, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return err
	}
	in, out := bufio.NewReader(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var size [4]byte
		if _, err := io.ReadFull(in, size[:]); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		image := make([]byte, binary.LittleEndian.Uint32(size[:]))
		if _, err := io.ReadFull(in, image); err != nil {
			return err
		}
		// Reset VmHWM to the memory that is resident now.
		if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
			return err
		}
		before, start := memoryOf("VmRSS"), time.Now()
		d, err := decode(image)
		d.Took, d.Peak = time.Since(start), memoryOf("VmHWM")-before
		if err != nil {
			d.Error, d.Reason = err.Error(), "other"
			if bad := new(InputError); errors.As(err, &bad) {
				d.Reason = bad.Reason
			}
		}
		if err := out.Encode(d); err != nil {
			return err
		}
	}
}

func childDecoder(by string) (func(image []byte) (decoded, error), error) {
	if by == byTensorFlow {
		f, err := decodeImageFunction()
		if err != nil {
			return nil, err
		}
		return func(image []byte) (d decoded, err error) {
			contents, err := savedmodel.NewStringTensor([][]byte{image})
			if err != nil {
				return d, err
			}
			defer contents.Close()
			out, err := f.Run(context.Background(), contents)
			if err != nil {
				return d, blameInput(err, ReasonUndecodable)
			}
			defer out[0].Close()
			shape := out[0].Shape()
			d.Height, d.Width = int(shape[0]), int(shape[1])
			return d, nil
		}, nil
	}
	pixels, err := strconv.ParseInt(os.Getenv("INCEPTOR_TEST_PIXELS"), 10, 64)
	if err != nil {
		return nil, err
	}
	in := Preprocessing{Size: [2]int{299, 299}, Resize: "bilinear", Scale: same(1 / 127.5), Offset: same(-1)}
	decoder, err := newDecoder(in, savedmodel.Float32, false, savedmodel.Options{})
	if err != nil {
		return nil, err
	}
	a := &pipeline{options: Options{MaxPixels: pixels}, decode: decoder.item}
	return func(image []byte) (d decoded, err error) {
		if d.Header, err = a.inspect(image); err != nil {
			return d, err
		}
		it, err := a.decode(context.Background(), image, d.Header)
		if err == nil {
			it.pixels.Close()
		}
		return d, err
	}, nil
}

// decodeImageFunction returns the operation DecodeImage alone.
func decodeImageFunction() (*savedmodel.Function, error) {
	g := graphdef.New()
	g.Add("contents", "Placeholder", nil, graphdef.Attrs{"dtype": graphdef.Type(tfpb.DataType_DT_STRING), "shape": graphdef.Shape()})
	g.Add("decoded", "DecodeImage", []string{"contents"}, graphdef.Attrs{
		"channels": graphdef.Int(3), "dtype": graphdef.Type(tfpb.DataType_DT_UINT8), "expand_animations": graphdef.Bool(false),
	})
	session, err := savedmodel.NewSession(g.Def, savedmodel.Options{})
	if err != nil {
		return nil, err
	}
	return session.Function([]string{"contents:0"}, []string{"decoded:0"})
}

// memoryOf reads a field of /proc/self/status, in bytes.
func memoryOf(field string) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), field+":")
	line, _, _ := strings.Cut(rest, "\n")
	kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "kB")), 10, 64)
	if err != nil {
		return 0
	}
	return kb << 10
}

// The decoder does not get an image whose chunk declares too much.
func TestDeclaredLengthsCostNothing(t *testing.T) {
	child := startDecodeChild(t, byThisPackage, 8<<30, 1e9)
	whole := modeltest.PNG(t, 1, 1)
	head, data := whole[:33], whole[:len(whole)-12]
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	for _, kind := range []string{"tEXt", "zTXt", "iTXt", "sPLT", "pCAL", "sCAL", "eXIf", "iCCP", "hIST", "PLTE", "abCd", "IDAT"} {
		for name, image := range map[string][]byte{
			"before the data":  join(head, declared(kind, 0x7ffffff0)),
			"behind the data":  join(data, declared(kind, 0x7ffffff0)),
			"three in another": join(data, declared(kind, 0x7ffffff0), declared("tEXt", 0x7fffffff), declared("iTXt", 0x3fffffff)),
		} {
			d, ok := child.decode(image)
			if !ok {
				t.Fatalf("%s %s: the decoder's process has died: %v", kind, name, child.close())
			}
			if d.Reason != ReasonUndecodable || d.Peak > 8<<20 {
				t.Errorf("%s %s: %q (%s), the process grew by %d MB", kind, name, d.Reason, d.Error, d.Peak>>20)
			}
		}
	}
	if err := child.close(); err != nil {
		t.Error(err)
	}
}
