package testenv

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// An installBench is a machine on which install.sh runs, and a folder with archives.
type installBench struct {
	t      *testing.T
	from   string // has the archives
	prefix string
	bin    string // has the commands that are not this machine's
	home   string
}

func newInstallBench(t *testing.T) *installBench {
	t.Parallel()
	dir := t.TempDir()
	b := &installBench{t: t, from: filepath.Join(dir, "the release"), prefix: filepath.Join(dir, "a place"),
		bin: filepath.Join(dir, "bin"), home: filepath.Join(dir, "home")}
	for _, folder := range []string{b.from, b.bin, b.home} {
		if err := os.Mkdir(folder, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	b.command("uname", `case $1 in -m) echo x86_64 ;; *) echo Linux ;; esac`)
	return b
}

// write writes a file that may be run. Meanwhile no other test starts a process, which would have
// the file open for writing until it runs its program, and nothing may run a file that is.
func (b *installBench) write(path string, content []byte) {
	b.t.Helper()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, content, 0o700); err != nil {
		b.t.Fatal(err)
	}
}

func (b *installBench) read(path string) []byte {
	b.t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		b.t.Fatal(err)
	}
	return content
}

// command replaces a command of the machine.
func (b *installBench) command(name, script string) {
	b.t.Helper()
	b.write(filepath.Join(b.bin, name), []byte("#!/bin/sh\n"+script+"\n"))
}

func archiveName(version, arch string) string {
	return fmt.Sprintf("inceptor_%s_linux_%s.tar.gz", version, arch)
}

// program is the script of a program that starts.
func program(name string) string {
	return "case $1 in version) echo 'TensorFlow  2.21.0' ;; *) echo " + name + " ;; esac"
}

// archive makes an archive whose program is a script.
func (b *installBench) archive(version, arch, script string) string {
	b.t.Helper()
	var packed bytes.Buffer
	zipped := gzip.NewWriter(&packed)
	archive := tar.NewWriter(zipped)
	top := strings.TrimSuffix(archiveName(version, arch), ".tar.gz") + "/"
	for name, content := range map[string]string{
		"bin/inceptor": "#!/bin/sh\n" + script + "\n", "share/man/man1/inceptor.1": "manual",
		"share/bash-completion/completions/inceptor": "bash", "share/zsh/site-functions/_inceptor": "zsh",
		"share/fish/vendor_completions.d/inceptor.fish": "fish",
	} {
		err := archive.WriteHeader(&tar.Header{Name: top + name, Mode: 0o755, Size: int64(len(content))})
		if err == nil {
			_, err = archive.Write([]byte(content))
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), zipped.Close()); err != nil {
		b.t.Fatal(err)
	}
	path := filepath.Join(b.from, archiveName(version, arch))
	b.write(path, packed.Bytes())
	return path
}

// sums writes the checksums of the archives as they are.
func (b *installBench) sums() {
	b.t.Helper()
	archives, err := filepath.Glob(filepath.Join(b.from, "*.tar.gz"))
	if err != nil {
		b.t.Fatal(err)
	}
	var sums []byte
	for _, path := range archives {
		sums = fmt.Appendf(sums, "%x  %s\n", sha256.Sum256(b.read(path)), filepath.Base(path))
	}
	b.write(filepath.Join(b.from, "checksums.txt"), sums)
}

// release replaces what is published.
func (b *installBench) release(version string) {
	b.t.Helper()
	archives, _ := filepath.Glob(filepath.Join(b.from, "*.tar.gz"))
	for _, path := range archives {
		if err := os.Remove(path); err != nil {
			b.t.Fatal(err)
		}
	}
	b.archive(version, "amd64", program("inceptor "+version))
	b.archive(version, "arm64", "exit 9")
	b.sums()
}

// run runs install.sh.
func (b *installBench) run(args ...string) (out, failure string, code int) {
	b.t.Helper()
	script, err := filepath.Abs("../install.sh")
	if err != nil {
		b.t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command("sh", append([]string{script}, args...)...)
	cmd.Dir = b.home
	cmd.Env = []string{"PATH=" + b.bin + ":" + os.Getenv("PATH"), "HOME=" + b.home, "CDPATH=" + b.home}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		b.t.Fatal(err)
	}
	return stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()
}

// installed returns what the installed program below a folder prints, or "".
func (b *installBench) installed(prefix string) string {
	out, err := exec.Command(filepath.Join(prefix, "bin", "inceptor"), "--version").Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// entries lists a folder, with what is hidden.
func (b *installBench) entries(dir string) string {
	b.t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.t.Fatal(err)
	}
	names := make([]string, len(list))
	for i, e := range list {
		names[i] = e.Name()
	}
	return strings.Join(names, " ")
}

// An archive is installed below the folder that is asked for, and the output says what was done and
// what to type next. Paths may have spaces and be relative.
func TestInstall(t *testing.T) {
	b := newInstallBench(t)
	b.release("1.2.3")
	for _, test := range []struct {
		name, from, prefix, want string
	}{
		{"absolute", b.from, b.prefix, b.prefix},
		{"with a slash", b.from + "/", b.prefix + "/", b.prefix},
		{"relative", "../the release", "a folder/of mine", filepath.Join(b.home, "a folder/of mine")},
	} {
		out, failure, code := b.run("--from", test.from, "--prefix", test.prefix)
		if code != 0 || failure != "" || b.installed(test.want) != "inceptor 1.2.3" {
			t.Fatalf("%s: exit status %d, installed %q\n%s%s", test.name, code, b.installed(test.want), out, failure)
		}
		for _, want := range []string{"checksum of inceptor_1.2.3_linux_amd64.tar.gz matches", test.want + "/opt/inceptor/1.2.3,",
			test.want + "/bin/inceptor is a link", `Next: "` + test.want + `/bin/inceptor" demo`} {
			if !strings.Contains(out, want) {
				t.Errorf("%s: the output lacks %q:\n%s", test.name, want, out)
			}
		}
		if got := b.entries(test.want + "/opt/inceptor"); got != "1.2.3" {
			t.Errorf("%s: the folder has %s", test.name, got)
		}
		for _, file := range []string{"man/man1/inceptor.1", "bash-completion/completions/inceptor", "zsh/site-functions/_inceptor",
			"fish/vendor_completions.d/inceptor.fish"} {
			b.read(filepath.Join(test.want, "share", file))
		}
	}
}

// Whoever is not root gets it below the home folder, for the processor of the machine.
func TestInstallAtHome(t *testing.T) {
	b := newInstallBench(t)
	b.release("1.2.3")
	b.archive("1.2.3", "arm64", program("inceptor for arm64"))
	b.sums()
	b.command("id", "echo 1000")
	b.command("uname", `case $1 in -m) echo aarch64 ;; *) echo Linux ;; esac`)
	out, failure, code := b.run("--from", b.from)
	if got := b.installed(filepath.Join(b.home, ".local")); code != 0 || got != "inceptor for arm64" {
		t.Errorf("exit status %d, installed %q\n%s%s", code, got, out, failure)
	}
}

// What cannot be installed changes nothing, and the error says why.
func TestInstallRefuses(t *testing.T) {
	for _, test := range []struct {
		name, want string
		code       int
		spoil      func(b *installBench)
		args       []string // after --from and --prefix
	}{
		{"another archive", "its SHA-256 is", 1, func(b *installBench) { b.archive("2.0.0", "amd64", "echo other") }, nil},
		{"a truncated archive", "is damaged or not the one of checksums.txt", 1, func(b *installBench) {
			path := filepath.Join(b.from, archiveName("2.0.0", "amd64"))
			b.write(path, b.read(path)[:200])
		}, nil},
		{"an archive that was truncated before", "could not be unpacked", 1, func(b *installBench) {
			path := filepath.Join(b.from, archiveName("2.0.0", "amd64"))
			b.write(path, b.read(path)[:200])
			b.sums()
		}, nil},
		{"no archive", archiveName("2.0.0", "amd64") + " is not a file that can be read", 1, func(b *installBench) {
			if err := os.Remove(filepath.Join(b.from, archiveName("2.0.0", "amd64"))); err != nil {
				b.t.Fatal(err)
			}
		}, nil},
		{"no checksums", "checksums.txt is not a file that can be read", 1, func(b *installBench) {
			if err := os.Remove(filepath.Join(b.from, "checksums.txt")); err != nil {
				b.t.Fatal(err)
			}
		}, nil},
		{"no checksum of it", "names no archive for linux/amd64", 1, func(b *installBench) {
			b.write(filepath.Join(b.from, "checksums.txt"), []byte("0123  "+archiveName("2.0.0", "amd64")+"\n"))
		}, nil},
		{"several versions", "names several archives for linux/amd64", 1, func(b *installBench) {
			b.archive("2.1.0", "amd64", "echo inceptor 2.1.0")
			b.sums()
		}, nil},
		{"a program for other machines", "inceptor 2.0.0 does not start here", 1, func(b *installBench) {
			b.archive("2.0.0", "amd64", "exit 1")
			b.sums()
		}, nil},
		{"a library that does not open", "TensorFlow  libstdc++.so.6 is missing", 1, func(b *installBench) {
			b.archive("2.0.0", "amd64", "echo 'TensorFlow  libstdc++.so.6 is missing'")
			b.sums()
		}, nil},
		{"a full disk", "mv failed", 1, func(b *installBench) { b.command("mv", "echo mv failed >&2; exit 1") }, nil},
		{"a processor without an archive", "no archive for the processor riscv64", 1, func(b *installBench) {
			b.command("uname", `case $1 in -m) echo riscv64 ;; *) echo Linux ;; esac`)
		}, nil},
		{"another system", "this is Darwin", 1, func(b *installBench) { b.command("uname", "echo Darwin") }, nil},
		{"no right to write", "name a folder that you can write", 1, func(*installBench) {}, []string{"--prefix", "/proc/inceptor"}},
		{"a file in the way", "name a folder that you can write", 1, func(b *installBench) {
			b.write(filepath.Join(b.home, "file"), nil)
		}, []string{"--prefix", "file/folder"}},
		{"an unknown flag", "usage: install.sh", 2, func(*installBench) {}, []string{"--yes", "x"}},
		{"a flag without value", "usage: install.sh", 2, func(*installBench) {}, []string{"--prefix"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := newInstallBench(t)
			b.release("1.0.0")
			if out, failure, code := b.run("--from", b.from, "--prefix", b.prefix); code != 0 {
				t.Fatalf("exit status %d\n%s%s", code, out, failure)
			}
			b.release("2.0.0")
			test.spoil(b)
			out, failure, code := b.run(append([]string{"--from", b.from, "--prefix", b.prefix}, test.args...)...)
			if code != test.code || !strings.Contains(failure, test.want) {
				t.Errorf("exit status %d, want %d and %q\n%s%s", code, test.code, test.want, out, failure)
			}
			if got, have := b.installed(b.prefix), b.entries(b.prefix+"/opt/inceptor"); got != "inceptor 1.0.0" || have != "1.0.0" {
				t.Errorf("afterwards %q is installed, and the folder has %s", got, have)
			}
		})
	}
}

// What somebody else put there stays, and nothing is installed.
func TestInstallKeepsWhatIsThere(t *testing.T) {
	b := newInstallBench(t)
	b.release("1.0.0")
	manual := b.prefix + "/share/man/man1/inceptor.1"
	for _, dir := range []string{b.prefix + "/bin", filepath.Dir(manual)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	mine := filepath.Join(b.home, "mine")
	b.write(mine, []byte("#!/bin/sh\necho mine\n"))
	for _, path := range []string{b.prefix + "/bin/inceptor", manual} {
		if err := os.Symlink(mine, path); err != nil {
			t.Fatal(err)
		}
		if _, failure, code := b.run("--from", b.from, "--prefix", b.prefix); code != 1 || !strings.Contains(failure, path+" is there") {
			t.Errorf("exit status %d\n%s", code, failure)
		}
		if got, err := os.Readlink(path); got != mine || b.entries(b.prefix+"/opt/inceptor") != "" {
			t.Errorf("%s leads to %q (%v), and the folder has %s", path, got, err, b.entries(b.prefix+"/opt/inceptor"))
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// To install a version that is there keeps it, with its changes, whatever fails. Another build of
// it does not replace it.
func TestInstallAgain(t *testing.T) {
	b := newInstallBench(t)
	install := func(version string) (failure string, code int) {
		b.release(version)
		_, failure, code = b.run("--from", b.from, "--prefix", b.prefix)
		return failure, code
	}
	for _, version := range []string{"1.0.0", "2.0.0"} {
		if failure, code := install(version); code != 0 {
			t.Fatalf("exit status %d\n%s", code, failure)
		}
	}
	config := b.prefix + "/opt/inceptor/1.0.0/share/mine.yaml"
	b.write(config, []byte("mine"))
	check := func(name, version string) {
		t.Helper()
		if got := b.installed(b.prefix); got != "inceptor "+version {
			t.Errorf("%s: installed %q", name, got)
		}
		if have := b.entries(b.prefix + "/opt/inceptor"); have != "1.0.0 2.0.0" || string(b.read(config)) != "mine" {
			t.Errorf("%s: the folder has %s, and the changed file %q", name, have, b.read(config))
		}
	}
	mv, err := exec.LookPath("mv")
	if err != nil {
		t.Fatal(err)
	}
	for _, fails := range []int{1, 2} {
		b.command("mv", fmt.Sprintf("n=$(($(cat n 2>/dev/null) + 1)); echo $n >n; [ $n -eq %d ] && exit 1; %s \"$@\"", fails, mv))
		if _, code := install("1.0.0"); code == 0 {
			t.Errorf("mv %d fails: exit status 0", fails)
		}
		check(fmt.Sprintf("mv %d fails", fails), "2.0.0")
		if err := errors.Join(os.Remove(filepath.Join(b.bin, "mv")), os.Remove(filepath.Join(b.home, "n"))); err != nil {
			t.Fatal(err)
		}
	}
	if failure, code := install("1.0.0"); code != 0 {
		t.Errorf("exit status %d\n%s", code, failure)
	}
	check("back", "1.0.0")
	b.archive("2.0.0", "amd64", program("another"))
	if err := os.Remove(filepath.Join(b.from, archiveName("1.0.0", "amd64"))); err != nil {
		t.Fatal(err)
	}
	b.sums()
	if _, failure, code := b.run("--from", b.from, "--prefix", b.prefix); code != 1 || !strings.Contains(failure, "another build of 2.0.0") {
		t.Errorf("another build: exit status %d\n%s", code, failure)
	}
	check("another build", "1.0.0")
}

// An upgrade leaves the version before, with whatever was changed in it, and the program can be
// started at any moment.
func TestInstallUpgrades(t *testing.T) {
	b := newInstallBench(t)
	b.release("1.0.0")
	if _, failure, code := b.run("--from", b.from, "--prefix", b.prefix); code != 0 {
		t.Fatal(failure)
	}
	config := b.prefix + "/opt/inceptor/1.0.0/share/mine.yaml"
	b.write(config, []byte("mine"))
	var stop atomic.Bool
	missed := make(chan int)
	go func() {
		n := 0
		for !stop.Load() {
			if b.installed(b.prefix) == "" {
				n++
			}
		}
		missed <- n
	}()
	out := ""
	for _, version := range []string{"1.1.0", "1.2.0", "1.10.0-dev.3.gabc1234"} {
		b.release(version)
		said, failure, code := b.run("--from", b.from, "--prefix", b.prefix)
		if got := b.installed(b.prefix); code != 0 || got != "inceptor "+version {
			t.Errorf("exit status %d, installed %q\n%s", code, got, failure)
		}
		out = said
	}
	stop.Store(true)
	if n := <-missed; n > 0 {
		t.Errorf("%d times the program could not be started", n)
	}
	if string(b.read(config)) != "mine" || !strings.Contains(out, "Another version is in "+b.prefix+"/opt/inceptor/1.0.0:") {
		t.Errorf("the older version is not kept, or not told of:\n%s", out)
	}
}

// Archives come from a web server too. Errors do not show a password.
func TestInstallFromURL(t *testing.T) {
	b := newInstallBench(t)
	b.release("1.2.3")
	files := http.FileServer(http.Dir(b.from))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/good/"):
			http.StripPrefix("/good", files).ServeHTTP(w, r)
		case r.URL.Path == "/torn/checksums.txt":
			http.StripPrefix("/torn", files).ServeHTTP(w, r)
		case strings.HasPrefix(r.URL.Path, "/torn/"): // ends before it should
			w.Header().Set("Content-Length", "100000")
			_, _ = w.Write([]byte("begin"))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	refused := httptest.NewServer(nil)
	refused.Close()
	secret := strings.Replace(server.URL, "://", "://user:secret@", 1)
	for _, test := range []struct{ url, want string }{
		{secret + "/missing", "/missing/checksums.txt did not come"},
		{secret + "/torn", "/torn/" + archiveName("1.2.3", "amd64") + " did not come"},
		{refused.URL, refused.URL + "/checksums.txt did not come"},
		{"ftp://127.0.0.1", "is not a file that can be read"},
		{strings.Replace(server.URL, "://", "://user:p@secret@", 1), server.URL + "/checksums.txt did not come"},
		{"https:/user:secret@127.0.0.1", "https:/127.0.0.1/checksums.txt is not a file"},
		{secret + "/good", ""},
	} {
		out, failure, code := b.run("--from", test.url, "--prefix", b.prefix)
		if (code == 0) != (test.want == "") || !strings.Contains(failure, test.want) || strings.Contains(out+failure, "secret") {
			t.Errorf("%s: exit status %d, want %q\n%s%s", test.url, code, test.want, out, failure)
		}
		if got := b.installed(b.prefix); (got == "inceptor 1.2.3") != (test.want == "") {
			t.Errorf("%s: installed %q", test.url, got)
		}
	}
}
