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

// ErrNoRuntime says that no TensorFlow library is available: none was found, or the program was
// built without cgo.
var ErrNoRuntime = errors.New("no TensorFlow runtime")

// libraryNames are the library's file names in the official archive and in TensorFlow's Python
// package. The latter is the C++ library, which exports the C API too.
var libraryNames = []string{"libtensorflow.so.2", "libtensorflow_cc.so.2"}

// checkoutFolder is where `make setup` puts the library in a checkout.
const checkoutFolder = ".tools/tensorflow"

const howToGet = `get it with "pip install tensorflow-cpu" (its folder "tensorflow" holds libtensorflow_cc.so.2), ` +
	`from the libtensorflow archive, or in a checkout with "make setup"; ` +
	`then name the file or its folder with --tensorflow.library or INCEPTOR_TENSORFLOW_LIBRARY`

var library struct {
	sync.Mutex
	path string // of the open library, empty if none is open; guarded by the Mutex
}

// defaultEnvironment holds variables that the library reads. OpenLibrary sets those that are unset.
var defaultEnvironment = map[string]string{
	// Log errors only.
	"TF_CPP_MIN_LOG_LEVEL": "2",
	// Without this, all sessions share the pool that runs the parts of an operation, even with
	// Options.OwnThreads.
	"TF_OVERRIDE_GLOBAL_THREADPOOL": "1",
	// oneDNN's own allocator keeps the memory that two loaded versions needed during a swap: 300
	// MB with Inception. The C library's allocator is as fast and can be trimmed.
	"TF_ONEDNN_USE_SYSTEM_ALLOCATOR": "1",
}

// OpenLibrary opens TensorFlow's library for the whole process. If a library is open already, it
// does nothing. The path names the library or its folder. If the path is empty, OpenLibrary looks
// next to the executable, then in .tools/tensorflow of the checkout, and then asks the system's
// loader. The error wraps ErrNoRuntime, lists every place tried and says how to get the library.
//
// TensorFlow logs to standard error by itself. Only errors appear, unless TF_CPP_MIN_LOG_LEVEL is
// set. Where oneDNN is on by default, TensorFlow 2.21 always writes two lines, about logging and
// about oneDNN, because it writes them before it reads that variable.
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

// LibraryPath returns the path of the open library, or its bare name if the system's loader found
// it. It is empty while no library is open.
func LibraryPath() string {
	library.Lock()
	defer library.Unlock()
	return library.path
}

// LibraryVersion returns TensorFlow's version, such as "2.21.0". It is empty while no library is
// open.
func LibraryVersion() string {
	if LibraryPath() == "" {
		return ""
	}
	return ctf.Version()
}

// libraryCandidates lists the paths to try, in order. The executable's folder and the working
// folder are empty if they are unknown.
func libraryCandidates(path, executable, work string) []string {
	if path != "" {
		info, err := os.Stat(path)
		if err != nil {
			return []string{path} // it may be a name for the system's loader
		}
		// The loader searches its own folders for a name without a slash.
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

// above finds the folder sub in dir or in a folder above it. It skips folders with the sticky bit,
// such as /tmp, because anybody can write there.
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

// CountCrashes makes a crash in native code leave a mark at count: a signal handler adds one there
// before SIGABRT, SIGSEGV, SIGBUS, SIGILL or SIGFPE ends the process. It does not count a fault
// that Go turns into a panic. It misses a stack overflow on a thread of TensorFlow, which leaves no
// stack for the handler. The count must lie outside Go's heap and stay mapped for ever, such as in
// a mapped file. Nil stops the counting.
func CountCrashes(count *uint32) { ctf.CountCrashes(count) }

// TrimMemory returns free memory of the C allocator to the system. Call it after a load, because
// the allocator keeps the load's scratch memory. Session.Close calls it itself.
func TrimMemory() {
	if LibraryPath() != "" {
		ctf.TrimMemory()
	}
}
