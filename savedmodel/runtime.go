package savedmodel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"inceptor/savedmodel/internal/ctf"
)

// ErrNoRuntime says that there is no TensorFlow library to run a model with:
// none was found, or the program was built without cgo.
var ErrNoRuntime = errors.New("no TensorFlow runtime")

// Names of the library: the official archive's, and that of the C++ library
// in TensorFlow's Python package, which exports the C API as well.
var libraryNames = []string{"libtensorflow.so.2", "libtensorflow_cc.so.2"}

// checkoutFolder is where `make setup` puts the library, below a checkout.
const checkoutFolder = ".tools/tensorflow"

const howToGet = `get it with "pip install tensorflow-cpu" (its folder "tensorflow" holds libtensorflow_cc.so.2), ` +
	`from the libtensorflow archive, or in a checkout with "make setup"; ` +
	`then name the file or its folder with --tensorflow.library or INCEPTOR_TENSORFLOW_LIBRARY`

var library struct {
	sync.Mutex
	path string // of the open library; empty: none is open
}

// defaultEnvironment is what the library reads, unless it is set already.
var defaultEnvironment = map[string]string{
	// Errors only.
	"TF_CPP_MIN_LOG_LEVEL": "2",
	// Without this, Options.OwnThreads leaves the pool that operations divide
	// their work in, as against those that start them, to all sessions.
	"TF_OVERRIDE_GLOBAL_THREADPOOL": "1",
	// Where oneDNN is on, its allocator would keep what two versions needed
	// while one took the other's place: 300 MB, with Inception. The C library's
	// is as fast, and can be trimmed.
	"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
}

// OpenLibrary opens TensorFlow's library, once for the whole process; later
// calls return at once. The path names the library or its folder; if it is
// empty the library is looked for beside the executable, in the checkout's
// .tools/tensorflow, and by the system's loader. An error wraps ErrNoRuntime,
// lists every place that was tried and says how to get the library.
//
// TensorFlow logs to standard error by itself; unless TF_CPP_MIN_LOG_LEVEL is
// set, only errors appear. Two lines of TensorFlow 2.21, about logging and
// about oneDNN, come in any case where oneDNN is on by default: the library
// writes them while it is being opened, before it looks at that variable.
func OpenLibrary(path string) error {
	library.Lock()
	defer library.Unlock()
	if library.path != "" {
		return nil
	}
	for name, value := range defaultEnvironment {
		if os.Getenv(name) == "" {
			_ = os.Setenv(name, value)
		}
	}
	var tried []string
	for _, candidate := range libraryCandidates(path, executableFolder(), workingFolder()) {
		err := ctf.Open(candidate)
		if err == nil {
			library.path = candidate
			return nil
		}
		if errors.Is(err, ctf.ErrNoRuntime) {
			return fmt.Errorf("%w: %w", ErrNoRuntime, err)
		}
		reason := strings.TrimPrefix(err.Error(), candidate+": ")
		tried = append(tried, fmt.Sprintf("  %s: %s", candidate, reason))
	}
	return fmt.Errorf("%w; tried\n%s\n%s", ErrNoRuntime, strings.Join(tried, "\n"), howToGet)
}

// LibraryPath is the path of the open library, or the bare name that the
// system's loader was given; empty while none is open.
func LibraryPath() string {
	library.Lock()
	defer library.Unlock()
	return library.path
}

// LibraryVersion is TensorFlow's version, such as "2.21.0"; empty while no
// library is open.
func LibraryVersion() string {
	if LibraryPath() == "" {
		return ""
	}
	return ctf.Version()
}

// libraryCandidates lists what to open, in order. The folders of the
// executable and of work are empty where they are not known.
func libraryCandidates(path, executable, work string) []string {
	if path != "" {
		info, err := os.Stat(path)
		if err != nil {
			return []string{path} // which may be a name for the system's loader
		}
		// The loader would look for a name without a slash elsewhere.
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		if info.IsDir() {
			return inFolder(path)
		}
		return []string{path}
	}
	var candidates []string
	if executable != "" {
		candidates = inFolder(executable)
	}
	for _, start := range []string{executable, work} {
		if start == "" {
			continue
		}
		if folder, ok := above(start, checkoutFolder); ok {
			candidates = append(candidates, inFolder(folder)...)
			break
		}
	}
	return append(candidates, libraryNames...)
}

func executableFolder() string {
	exe, err := os.Executable()
	if err != nil {
		return ""
	}
	return filepath.Dir(exe)
}

func workingFolder() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	return dir
}

func inFolder(folder string) []string {
	paths := make([]string, len(libraryNames))
	for i, name := range libraryNames {
		paths[i] = filepath.Join(folder, name)
	}
	return paths
}

// above finds the folder sub in dir or in a folder above it, but not in one
// with the sticky bit, such as /tmp: there, anybody could have put it.
func above(dir, sub string) (string, bool) {
	for {
		folder := filepath.Join(dir, sub)
		shared, err := os.Stat(dir)
		if err == nil && shared.Mode()&os.ModeSticky == 0 {
			if info, err := os.Stat(folder); err == nil && info.IsDir() {
				return folder, true
			}
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

// CountCrashes counts the signals by which native code ends the process
// (SIGABRT, SIGSEGV, SIGBUS, SIGILL, SIGFPE) at count, which is above zero
// after such an end and no other: not after a fault that Go made a panic, and
// not after a stack overflow on a thread of TensorFlow's, which leaves no room
// for a handler. The count is memory outside Go's heap that is never unmapped,
// such as a file's. Nil ends the counting.
func CountCrashes(count *uint32) { ctf.CountCrashes(count) }

// TrimMemory gives the free memory of the C allocator back to the system.
// Session.Close does it by itself; call it after a load, whose scratch memory
// the allocator would otherwise keep.
func TrimMemory() {
	if LibraryPath() != "" {
		ctf.TrimMemory()
	}
}
