package deploy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"inceptor/service/stream/embedded"
)

// patience is how long something may take. It is generous: the machine may have other work.
const patience = 2 * time.Minute

// Set once by TestMain.
var (
	scratch string // a folder for what all tests use
	program string // inceptor
)

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	var err error
	if scratch, err = os.MkdirTemp("", "inceptor-deploy"); err != nil {
		return 0, err
	}
	defer os.RemoveAll(scratch)
	program = filepath.Join(scratch, "inceptor")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", program, "./cmd/inceptor").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// A pod is a container of the chart as a process: its volumes are folders below root, and what
// names their paths names the folders.
type pod struct {
	root string
	args []string
	env  []string
}

// newPod makes the volumes, with the ConfigMap in its own. An emptyDir may be written by everybody,
// as Kubernetes makes it.
func newPod(t *testing.T, r release) pod {
	t.Helper()
	p := pod{root: t.TempDir()}
	c := r.container(t)
	inRoot := func(text string) string {
		for _, m := range c.VolumeMounts {
			if text == m.MountPath || strings.HasPrefix(text, m.MountPath+"/") {
				return p.root + text
			}
		}
		return text
	}
	for _, m := range c.VolumeMounts {
		dir := inRoot(m.MountPath)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		volume := r.pods.Spec.Volumes[slices.IndexFunc(r.pods.Spec.Volumes, func(v core.Volume) bool { return v.Name == m.Name })]
		switch {
		case volume.EmptyDir != nil:
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
		case volume.ConfigMap != nil:
			for name, text := range r.config.Data {
				text = strings.ReplaceAll(text, "root: /images", "root: "+p.root+"/images")
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, arg := range c.Args {
		p.args = append(p.args, inRoot(arg))
	}
	p.env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + p.root + "/tmp"}
	for _, v := range c.Env {
		value := inRoot(v.Value)
		if v.ValueFrom != nil {
			value = "from-" + v.Name
		}
		p.env = append(p.env, v.Name+"="+value)
	}
	return p
}

// The program takes each installation's file and variables, and means by them what the chart means.
func TestProgramTakesTheConfiguration(t *testing.T) {
	show := func(p pod, extra ...string) (string, string, error) {
		cmd := exec.Command(program, append([]string{"config"}, p.args[1:]...)...)
		cmd.Env = slices.Concat(p.env, extra)
		var out, log bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &log
		err := cmd.Run()
		return out.String(), log.String(), err
	}
	for name, values := range installations {
		t.Run(name, func(t *testing.T) {
			r := install(t, values)
			p := newPod(t, r)
			out, log, err := show(p)
			if err != nil || log != "" {
				t.Fatalf("%v: %s%s", err, log, out)
			}
			var settings struct {
				Kafka struct{ Group string }
				HTTP  struct{ Listen string }
				Crash struct{ Journal string }
				Model struct{ Dir, State, Backend string }
			}
			if err := yaml.Unmarshal([]byte(out), &settings); err != nil {
				t.Fatal(err)
			}
			if settings.HTTP.Listen != ":8080" || settings.Crash.Journal != p.root+"/var/lib/inceptor/journal" {
				t.Errorf("%+v", settings)
			}
			if r.scaledObject != nil && triggerOf(t, r.scaledObject)["consumerGroup"] != settings.Kafka.Group {
				t.Errorf("KEDA reads the lag of another group than %q", settings.Kafka.Group)
			}
			local := settings.Model.Backend != "remote"
			if strings.HasPrefix(settings.Model.Dir, p.root+"/models") != local || strings.HasPrefix(settings.Model.State, p.root+"/var/lib/inceptor/state/") != local {
				t.Errorf("%+v", settings)
			}
		})
	}
	p := newPod(t, install(t, "{}"))
	if _, log, _ := show(p, "INCEPTOR_CRASH_JURNAL=/j"); !strings.Contains(log, "INCEPTOR_CRASH_JURNAL") {
		t.Errorf("a variable that is no setting is taken: %s", log)
	}
}

// The defaults' container runs: it answers each probe, is scraped, keeps its journal, and ends.
func TestPodRuns(t *testing.T) {
	broker, err := embedded.Start(0, 2, "ImageInputTopic", "ImageOutputTopic", "ImageDeadLetterTopic")
	if err != nil {
		t.Fatal(err)
	}
	defer broker.Close()
	r := install(t, "config: {kafka: {brokers: '"+broker.Addr()+"'}}")
	p := newPod(t, r)
	model, err := filepath.Abs("../../savedmodel/inception")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(model, p.root+"/models/inception"); err != nil {
		t.Fatal(err)
	}
	library, err := filepath.Abs("../../.tools/tensorflow")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, p.args...)
	cmd.Env = slices.Concat(p.env, []string{"INCEPTOR_HTTP_LISTEN=127.0.0.1:0", "INCEPTOR_TENSORFLOW_LIBRARY=" + library})
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := &processLog{address: make(chan string, 1)}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	ended := func() {
		t.Helper()
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-done:
			if err != nil || t.Failed() {
				t.Errorf("%v\n%s", err, log.text.String())
			}
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Error("it does not end")
		}
	}
	defer ended()

	var address string
	select {
	case address = <-log.address:
	case <-time.After(patience):
		t.Fatal("it does not listen")
	}
	c := r.container(t)
	url := "http://" + address
	for _, probe := range []*core.Probe{c.StartupProbe, c.LivenessProbe, c.ReadinessProbe} {
		await(t, done, url+probe.HTTPGet.Path)
	}
	if metrics := await(t, done, url+r.pods.Annotations["prometheus.io/path"]); !strings.Contains(metrics, "inceptor_build_info") {
		t.Errorf("no metrics of inceptor:\n%s", metrics)
	}
	models := exec.Command(program, "models", "--http.listen", address)
	models.Env = cmd.Env
	if out, err := models.CombinedOutput(); err != nil || !strings.Contains(string(out), "serving") {
		t.Errorf("inceptor models: %v\n%s", err, out)
	}
	journals, err := filepath.Glob(fmt.Sprintf("%s/var/lib/inceptor/journal/inceptor-%d/*.journal", p.root, os.Getuid()))
	if err != nil || len(journals) != 1 {
		t.Errorf("journals: %v, %v", journals, err)
	}
}

// A processLog is what a process writes, up to its end.
type processLog struct {
	address chan string // gets where it listens, once
	text    bytes.Buffer
}

var listening = regexp.MustCompile(`"address":"http://([^"]+)"`)

// Write adds to the log; exec calls it from one goroutine.
func (l *processLog) Write(b []byte) (int, error) {
	known := listening.Match(l.text.Bytes())
	l.text.Write(b)
	if m := listening.FindSubmatch(l.text.Bytes()); m != nil && !known {
		l.address <- string(m[1])
	}
	return len(b), nil
}

// await waits until a path answers with 200.
func await(t *testing.T, done chan error, url string) string {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		r, err := http.Get(url)
		if err == nil {
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return string(b)
			}
			err = fmt.Errorf("%s: %s", r.Status, b)
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("it has ended: %v", err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", url, err)
		}
	}
}
